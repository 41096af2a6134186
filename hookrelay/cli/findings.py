"""What `hookrelay doctor` finds on this host, with or without a daemon: each finding says what to do about it."""

import ctypes
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from hookrelay.cli import permissions
from hookrelay.config.settings import Config, Loaded, Unix
from hookrelay.config.show import without_password

OK, WARNING, PROBLEM = "ok", "warning", "problem"
NARROWEST = {4: 8, 6: 32}
"""Bits of a network, by version: one with fewer is hardly meant."""
BEGUN_S = 1_767_225_600
"""2026: no clock is right that shows less."""
UNSYNCHRONISED = 0x0040
"""STA_UNSYNC of adjtimex(2)."""
OLD_COPY_S = 7 * 86400


class Finding(NamedTuple):
    """One thing that was looked at."""

    check: str
    level: str
    said: str
    remedy: str = ""


def of_permissions(loaded: Loaded, file: Path | None) -> Iterator[Finding]:
    """Who else may read or replace what belongs to the daemon, and whether the daemon may read it."""
    store, user = loaded.config.store, permissions.daemon_user(loaded.config)
    places = dict.fromkeys(_of_store(store.path), "holds payloads and secrets")
    if store.key_file is not None:
        places[store.key_file] = "holds the keys of secrets"
    for path in loaded.files:
        if _has_secrets(path):
            places[path] = "holds secrets of webhooks"
    if file is not None and loaded.config.egress.proxy is not None and "@" in loaded.config.egress.proxy:
        places[file] = "holds the proxy's password"
    wrong = False
    for shut in permissions.unreadable(loaded, file):
        wrong = True
        yield Finding("permissions", PROBLEM, f"{shut.path}: {shut.said}", shut.remedy)
    for path, why in places.items():
        mode, around = _mode(path), _mode(path.parent)
        is_config = path in loaded.files or path == file
        is_shut = around is not None and not around & 0o011  # nobody else gets to what is in it
        if mode is not None and not is_shut and mode & 0o077 & ~(0o040 if is_config else 0):
            wrong = True
            said = f"{path} {why}, and others may open it (mode {mode:04o})"
            yield Finding("permissions", WARNING, said, permissions.to_close(path, user, is_config=is_config))
    folders = {store.path.parent, loaded.config.events.socket.parent, loaded.config.delivery.webhooks_dir}
    folders |= {place.path.parent for place in loaded.config.api.listen if isinstance(place, Unix)}
    for folder in sorted(folders):
        mode = _mode(folder)
        if mode is not None and mode & 0o002 and not mode & stat.S_ISVTX:
            wrong = True
            yield Finding(
                "permissions", PROBLEM, f"everyone may write the folder {folder}, and replace what is in it",
                f"chmod o-w {folder}",
            )  # fmt: skip
    if not wrong:
        yield Finding("permissions", OK, f"{len(places)} files and {len(folders)} folders are closed to others")


def of_disk(config: Config) -> Iterator[Finding]:
    """Whether there is room to write, and for a backup."""
    from hookrelay.store.space import FREE_AT_LEAST

    path = config.store.path
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError as error:
        yield Finding(
            "disk", PROBLEM, f"{path.parent}: {error.strerror}", "create the folder, or point store.url elsewhere"
        )
        return
    size = sum(each.st_size for each in _stats(path))
    most = f"{size >> 20:,} MiB of at most {config.store.max_size >> 20:,}"
    said = f"{free >> 20:,} MiB free beside {path}, which has {most}"
    if free < FREE_AT_LEAST:
        yield Finding("disk", PROBLEM, said, "make room on that disk: with under 128 MiB submissions are refused")
    elif size > 0.9 * config.store.max_size:
        yield Finding("disk", WARNING, said, "raise store.max_size, or lower store.retention: history goes early now")
    elif free < size + FREE_AT_LEAST:
        yield Finding("disk", WARNING, said, "make room: `hookrelay backup` of a running daemon needs as much again")
    else:
        yield Finding("disk", OK, said)
    old = [
        each
        for each in path.parent.glob(f"{path.name}.before-schema-*")
        if time.time() - each.stat().st_mtime > OLD_COPY_S
    ]
    for each in old:
        yield Finding(
            "disk", WARNING, f"{each} is a copy from before an upgrade, with all payloads of then",
            "remove it once you will not go back to that version",
        )  # fmt: skip


def of_clock(config: Config) -> Finding:
    """Whether the clock can be right: receivers refuse signatures of another time."""
    remedy = "set it, and keep it right by chrony or systemd-timesyncd"
    now_s = time.time()
    if now_s < BEGUN_S:
        return Finding("clock", PROBLEM, f"it shows {time.strftime('%Y-%m-%d', time.gmtime(now_s))}", remedy)
    written = [each.st_mtime for each in _stats(config.store.path)]
    if written and max(written) > now_s + 60:
        ahead = round((max(written) - now_s) / 60)
        return Finding("clock", PROBLEM, f"the store was written {ahead} minutes in the future", remedy)
    synchronised = _is_synchronised()
    if synchronised is None:
        return Finding("clock", OK, "it can be right; whether it is synchronised cannot be told here")
    if not synchronised:
        return Finding("clock", WARNING, "the kernel says that nothing keeps it right", remedy)
    return Finding("clock", OK, "synchronised")


def _is_synchronised() -> bool | None:
    """What the kernel says of its clock (adjtimex(2)); None where it does not say."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        timex = (ctypes.c_long * 64)()  # larger than `struct timex`; all zero: only asks
        if libc.adjtimex(ctypes.byref(timex)) < 0:
            return None
    except (OSError, AttributeError):
        return None
    # modes, offset, freq, maxerror, esterror, status: each takes the room of a long
    status = ctypes.c_int.from_buffer(timex, 5 * ctypes.sizeof(ctypes.c_long))
    return not status.value & UNSYNCHRONISED


def of_dns(loaded: Loaded, names: list[str]) -> Iterator[Finding]:
    """Whether the name servers answer: by the names of webhooks, else by one that is nobody's (RFC 2606)."""
    import trio

    from hookrelay.net.failure import AttemptFailure
    from hookrelay.net.resolve import Resolver

    server = loaded.config.egress.resolver
    who = "the system's resolver" if server is None else f"egress.resolver {server}"
    remedy = "see /etc/resolv.conf, or whether egress.resolver is right and reachable"
    resolver = Resolver(None if server is None else (server.host, server.port))
    for name in names or ["hookrelay.invalid"]:
        try:
            found = trio.run(resolver.look_up, name, 443)
        except AttemptFailure as failure:
            if "does not exist" not in failure.detail and "has no address" not in failure.detail:
                yield Finding("dns", PROBLEM, f"{failure.detail}, by {who}", remedy)
            elif names:
                yield Finding(
                    "dns", WARNING, f"{failure.detail}, by {who}", "its webhooks get nothing: ask whoever made them"
                )
            else:
                yield Finding("dns", OK, f"{who} answers")
        else:
            yield Finding("dns", OK, f"{name} has {len(found)} addresses, by {who}")


def of_descriptors(limit: int, wanted: int, whose: str) -> Finding:
    """Whether as many connections can be open as `delivery.max_connections` says."""
    from hookrelay.outfit import DESCRIPTORS_KEPT

    needed = wanted + DESCRIPTORS_KEPT
    said = f"{whose} may open {limit:,} files; delivery.max_connections = {wanted:,} takes {needed:,}"
    if limit < needed:
        return Finding(
            "descriptors", WARNING, said, f"LimitNOFILE={needed} in the systemd unit, or ulimit -n; else it uses fewer"
        )
    return Finding("descriptors", OK, said)


def of_trust(config: Config) -> Finding:
    """Whether there is anything that receivers' certificates could be verified with."""
    from hookrelay.net.trust import authorities

    count, place = authorities()
    if not count and config.egress.ca_file is None:
        return Finding(
            "tls", PROBLEM, f"no authorities at {place}: every delivery by https ends as tls_error",
            "install the package ca-certificates, or name a file in egress.ca_file",
        )  # fmt: skip
    own = "" if config.egress.ca_file is None else f", and those of {config.egress.ca_file}"
    return Finding("tls", OK, f"{count} certificates of authorities at {place}{own}")


def of_egress(config: Config) -> Iterator[Finding]:
    """What the operator has opened beyond the public internet by https."""
    egress = config.egress
    opened = [rule if isinstance(rule, str) else _shown(rule) for rule in egress.allow]
    if egress.allow_http:
        yield Finding(
            "egress", WARNING, "egress.allow_http is on: payloads go to http:// receivers in the clear",
            "turn it off where receivers are not on this host or a network of yours",
        )  # fmt: skip
    wide = [
        _shown(rule)
        for rule in egress.allow
        if not isinstance(rule, str) and rule[0].prefixlen < NARROWEST[rule[0].version]
    ]
    if wide:
        yield Finding(
            "egress", WARNING, f"egress.allow opens all of {', '.join(wide)}", "name the networks of your receivers"
        )
    via = "" if egress.proxy is None else f"; through the proxy {without_password(egress.proxy)}"
    open_to = "only public addresses" if not opened else f"public addresses, and {', '.join(opened)}"
    yield Finding("egress", OK, f"{open_to}; denied beside the built-in list: {len(egress.deny)} rules{via}")


def _shown(rule: tuple[object, int | None]) -> str:
    network, port = rule
    return str(network) if port is None else f"{network}:{port}"


def _of_store(path: Path) -> list[Path]:
    return [each for each in sorted(path.parent.glob(f"{path.name}*")) if not each.name.endswith((".lock", ".id"))]


def _stats(path: Path) -> list[os.stat_result]:
    """Of the store and its log, as far as this user may know."""
    found = []
    for each in (path, path.with_name(f"{path.name}-wal")):
        with suppress(OSError):
            found.append(each.stat())
    return found


def _mode(path: Path) -> int | None:
    try:
        return os.stat(path).st_mode & 0o1777
    except OSError:
        return None


def _has_secrets(path: Path) -> bool:
    try:
        return any(line.lstrip().startswith(("secret =", "secret=")) for line in path.read_text().splitlines())
    except (OSError, UnicodeDecodeError):
        return False
