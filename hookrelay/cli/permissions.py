"""What the daemon's user may read of what root has written, and how it is opened to that user and to nobody else."""

import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from hookrelay.config.settings import Config, Loaded, Unix


class User(NamedTuple):
    """Who the daemon runs as; `groups` are the ids of all groups, the user's own among them."""

    name: str
    uid: int
    group: str
    groups: frozenset[int]


class Shut(NamedTuple):
    """A file or folder that keeps the daemon's user from what it must read."""

    path: Path
    said: str
    remedy: str


def daemon_user(config: Config) -> User | None:
    """Who owns the API's socket, else the store or its folder; None where none of them is there to tell."""
    sockets = [place.path for place in config.api.listen if isinstance(place, Unix)]
    for path in (*sockets, config.store.path, config.store.path.parent):
        with suppress(OSError):
            found = path.stat()
            return _user(found.st_uid, found.st_gid)
    return None


def unreadable(loaded: Loaded, file: Path | None) -> list[Shut]:
    """What the daemon would not get to of all that was read here; nothing unless root asks, who is refused nothing."""
    user = daemon_user(loaded.config) if os.geteuid() == 0 else None
    if user is None or user.uid == 0:
        return []
    folders = {loaded.config.delivery.webhooks_dir} | ({file.absolute().parent} if file is not None else set())
    return shut_out(_read(loaded, file), user, folders, loaded.config.store.key_file)


def shut_out(
    paths: Iterable[Path],
    user: User,
    folders: set[Path],
    key_file: Path | None = None,
    look: Callable[[Path], os.stat_result] = os.stat,
) -> list[Shut]:
    """The first thing on the way to each of `paths` that `user` may not pass, each once.

    `folders` are the configuration's: what is shut elsewhere may be shut for the sake of others, and is left alone.
    """
    look, found = cache(look), dict[Path, Shut]()
    for path in map(Path.absolute, paths):
        way = dict.fromkeys([*reversed(path.parents), *reversed(path.resolve().parents)], 0o1)
        try:
            way[path] = 0o5 if stat.S_ISDIR(look(path).st_mode) else 0o4
            shut = next((each for each, bits in way.items() if not _may(user, look(each), bits, each)), None)
        except OSError:
            continue  # it is gone meanwhile, or was never there: nothing is shut
        if shut is not None and shut not in found:
            may = "read it" if shut == path and way[path] == 0o4 else "open it"
            remedy = _to_open(shut, path, look(shut), user, folders, is_key=shut == key_file)
            found[shut] = Shut(shut, f"the daemon's user {user.name} may not {may}", remedy)
    return list(found.values())


def _may(user: User, found: os.stat_result, bits: int, path: Path) -> bool:
    """Whether the bits of the one class that `user` is of allow it; an ACL, which may say more, is believed to."""
    shift = 6 if found.st_uid == user.uid else 3 if found.st_gid in user.groups else 0
    return (found.st_mode >> shift) & bits == bits or _has_acl(path)


def _to_open(shut: Path, path: Path, found: os.stat_result, user: User, folders: set[Path], *, is_key: bool) -> str:
    """How the daemon's user may open `shut`, and with it `path`, and nobody else is given more or less."""
    is_folder = stat.S_ISDIR(found.st_mode)
    if found.st_uid == user.uid:
        return f"chmod {700 if is_folder else 600} {shut}"
    if is_key and not is_folder:  # `store.key_file` is refused where a group may read it
        return f"chown {user.name} {shut}; chmod 600 {shut}"
    is_others = found.st_gid != 0 and found.st_mode & 0o040
    if (is_folder and shut not in folders) or (is_others and not is_folder and shut.parent not in folders):
        return f"copy {path} to where {user.name} may read it, such as /etc/hookrelay, and name that"
    return f"chgrp {user.group} {shut}; chmod {750 if is_folder else 640} {shut}"


def to_close(path: Path, user: User | None, *, is_config: bool) -> str:
    """How nobody else may open a file, and the daemon still may."""
    owner = path.stat().st_uid
    if user is None and owner == 0 and is_config:
        return f"chgrp GROUP {path}; chmod 640 {path}, where GROUP is the one of the daemon's user"
    if user is None or user.uid in (0, owner):
        return f"chmod 600 {path}"
    if is_config:
        return f"chgrp {user.group} {path}; chmod 640 {path}"
    return f"chown {user.name} {path}; chmod 600 {path}"


def _read(loaded: Loaded, file: Path | None) -> Iterator[Path]:
    """Every file that the configuration was read from or names, and the folder of webhooks.

    What systemd hands to the daemon alone (LoadCredential=) has owners of its own, and so has a key that only this
    environment names.
    """
    config, named = loaded.config, dict[Path, None]()
    for path in (
        file,
        config.delivery.webhooks_dir,
        *loaded.files,
        config.egress.ca_file,
        config.telemetry.otel.ca_file,
    ):
        if path is not None:
            named[path] = None
    if config.store.key_file is not None and "HOOKRELAY_STORE__KEY_FILE" not in os.environ:
        named[config.store.key_file] = None
    for event_type in config.event_types:
        if event_type.schema is not None:
            named[event_type.schema] = None
    for trust in {webhook.trust for webhook in loaded.webhooks if webhook.trust is not None}:
        named |= dict.fromkeys(Path(each) for each in (trust.ca_file, trust.cert_file, trust.key_file) if each)
    for each in loaded.files:
        named |= dict.fromkeys(_secret_files(each))
    given = [Path("/run/credentials"), *map(Path, filter(None, [os.environ.get("CREDENTIALS_DIRECTORY")]))]
    return (path for path in named if not any(path.is_relative_to(each) for each in given))


def _secret_files(file: Path) -> list[Path]:
    """What `secret_file` says in a file of webhooks: the webhooks that were made of it hold the secrets only."""
    from hookrelay.config.files import read_toml
    from hookrelay.config.webhooks import MAX_FILE

    with suppress(OSError):
        if b"secret_file" not in file.read_bytes():
            return []
    document = read_toml(file, MAX_FILE, lambda _: None)
    tables = [] if document is None else document.tree.get("webhook", [])
    return list(dict.fromkeys(file.parent / table["secret_file"] for table in tables if "secret_file" in table))


def _user(uid: int, gid: int) -> User:
    """By name, with all groups; a container's user may have neither, and is called by number."""
    try:
        entry = pwd.getpwuid(uid)
        name, gid, groups = entry.pw_name, entry.pw_gid, os.getgrouplist(entry.pw_name, entry.pw_gid)
    except KeyError:
        name, groups = str(uid), [gid]
    try:
        group = grp.getgrgid(gid).gr_name
    except KeyError:
        group = str(gid)
    return User(name, uid, group, frozenset(groups))


def _has_acl(path: Path) -> bool:
    try:
        return "system.posix_acl_access" in os.listxattr(path)
    except OSError:
        return False
