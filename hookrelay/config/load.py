"""The configuration file, the environment and `webhooks.d` → `Loaded`, or every mistake at once.

Which file it is, and what the values mean to the daemon, is the caller's.
"""

import tomllib
from collections.abc import Callable, Collection, Mapping
from functools import partial
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from hookrelay.config.files import Document, Tell, read, read_toml, unreadable
from hookrelay.config.keys import KEYS, SECTIONS, Key
from hookrelay.config.otel import ENVIRONMENT, is_installed, read_otel
from hookrelay.config.settings import (
    ApiSettings,
    Config,
    DeliverySettings,
    EgressSettings,
    EventsSettings,
    EventType,
    LimitsSettings,
    Loaded,
    LogSettings,
    MetricsSettings,
    StoreSettings,
    TelemetrySettings,
    Unix,
)
from hookrelay.config.toml_lines import too_deep
from hookrelay.config.values import WrongItems, host_of
from hookrelay.config.values import path as read_path
from hookrelay.config.webhooks import find_files, load_files
from hookrelay.model import ConfigError, ConfigMistake
from hookrelay.rules.egress import Policy
from hookrelay.rules.pattern import RIGHT_TYPE, is_event_type
from hookrelay.rules.webhook import check_json
from hookrelay.rules.wording import got, nearest, shown, unknown

DEFAULT_PATH = Path("/etc/hookrelay/hookrelay.toml")
MAX_FILE = 1 << 20

Wrong = Callable[[tuple[int, ...], str], None]

_PREFIX = "HOOKRELAY_"
_TYPE_KEYS = ("description", "example", "schema")


def find(path: Path | None) -> Path | None:
    """The configuration file to load: the one named, else the default one, else None where that does not exist."""
    if path is not None:
        return path
    try:
        DEFAULT_PATH.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        pass  # it may be there: `load` tells why it cannot be read
    return DEFAULT_PATH


def load(path: Path | None, environ: Mapping[str, str]) -> Loaded:
    """All that the files and `environ` say; None means the defaults, as an empty file at `DEFAULT_PATH`.

    Raises ConfigError with every mistake in every file and in the environment.
    """
    mistakes: list[ConfigMistake] = []
    base = (DEFAULT_PATH if path is None else path).absolute().parent
    document = None if path is None else read_toml(path, MAX_FILE, mistakes.append)
    settings = _Settings(base, mistakes.append)
    event_types: tuple[EventType, ...] = ()
    if document is not None:
        event_types = _read_sections(document, settings)
    settings.override(environ)
    settings.check_together()
    config = settings.config(event_types)
    if config.telemetry.otlp_endpoint is not None:
        otel = read_otel(environ, mistakes.append)
        config = structs.replace(config, telemetry=structs.replace(config.telemetry, otel=otel))
    policy = config.egress.policy
    if path is not None and document is None:
        policy = _lenient(policy, settings.values.keys())
    else:
        policy = _lenient(policy, settings.wrong)
    is_named = "delivery.webhooks_dir" in settings.places.keys() - settings.wrong
    files = find_files(config.delivery.webhooks_dir, required=is_named, tell=mistakes.append)
    webhooks = load_files(
        files, environ=environ, policy=policy, defaults=config.delivery.defaults, tell=mistakes.append
    )
    if mistakes:
        order = {mistake.file: index for index, mistake in reversed(list(enumerate(mistakes)))}
        raise ConfigError(sorted(mistakes, key=lambda mistake: (order[mistake.file], mistake.line or 0)))
    return Loaded(config, webhooks, tuple(files), config.delivery.webhooks_dir.is_dir())


def load_one(path: Path | None, dotted: str, environ: Mapping[str, str]) -> Any:
    """What the file and `environ` say of one key: mistakes in other sections and files are nobody's business here.

    Raises ConfigError.
    """
    mistakes: list[ConfigMistake] = []
    settings = _Settings((DEFAULT_PATH if path is None else path).absolute().parent, mistakes.append)
    section = KEYS[dotted].section
    document = None if path is None else read_toml(path, MAX_FILE, mistakes.append)
    if document is not None and section in document.tree:
        document.tree = {section: document.tree[section]}
        _read_sections(document, settings)
    of_section = f"{_PREFIX}{section.upper()}__"
    settings.override({name: said for name, said in environ.items() if name.startswith(of_section)})
    if mistakes:
        raise ConfigError(mistakes)
    return settings.values[dotted]


def _lenient(policy: Policy, unknown_keys: Collection[str]) -> Policy:
    """The policy with all opened that keys which cannot be read may well open: no mistakes that follow from another."""
    allow = policy.allow
    if "egress.allow" in unknown_keys:
        allow = (*allow, (IPv4Network("0.0.0.0/0"), None), (IPv6Network("::/0"), None))
    return Policy(allow, policy.deny, policy.allow_http or "egress.allow_http" in unknown_keys)


class _Settings:
    """The values of all keys: the defaults, then what is said of them, later over earlier."""

    def __init__(self, base: Path, tell: Tell) -> None:
        self.base = base
        self.values: dict[str, Any] = {
            dotted: None if key.default is None else key.read(key.default, base) for dotted, key in KEYS.items()
        }
        self.places: dict[str, Wrong] = {}
        """Where each value that was given was given last: the way to tell of a mistake there."""
        self.wrong: set[str] = set()
        self._tell = tell

    def set(self, key: Key, raw: object, wrong: Wrong) -> None:
        """Take a raw value; `wrong` tells of mistakes at its place, with an item's index where one is to blame."""
        self.places[key.dotted] = wrong
        try:
            self.values[key.dotted] = key.read(raw, self.base)
        except WrongItems as error:
            for index, detail in error.items:
                wrong((index,), detail)
        except ValueError as error:
            wrong((), str(error))
        else:
            return
        self.wrong.add(key.dotted)

    def override(self, environ: Mapping[str, str]) -> None:
        """Take what `HOOKRELAY_SECTION__KEY` variables say; others are not ours."""
        names = {_PREFIX + dotted.upper().replace(".", "__"): key for dotted, key in KEYS.items()}
        for name in sorted(environ):
            if not name.startswith(_PREFIX) or "__" not in name:
                continue
            key = names.get(name)
            if key is None:
                self._tell(ConfigMistake(ENVIRONMENT, None, name, _unknown_variable(name)))
            elif key.default is None and not environ[name]:
                self.values[key.dotted] = None  # empty: off, whatever the file says
            else:
                self.set(key, _from_environment(environ[name], key), partial(self._wrong_variable, name))

    def check_together(self) -> None:
        """Tell of values that are right alone and wrong beside each other."""
        if Unix(self.values["events.socket"]) in self.values["api.listen"] and not self.wrong:
            place = self.places.get("events.socket") or self.places["api.listen"]
            place((), "events.socket and api.listen name one socket: give each a path of its own")
        if self.values["telemetry.otlp_endpoint"] is not None and not is_installed():
            wrong = self.places["telemetry.otlp_endpoint"]
            wrong((), "needs OpenTelemetry's libraries, which are not installed: pip install 'hookrelay[otel]'")

    def _wrong_variable(self, name: str, item: tuple[int, ...], detail: str) -> None:
        self._tell(ConfigMistake(ENVIRONMENT, None, name + "".join(f"[{index}]" for index in item), detail))

    def config(self, event_types: tuple[EventType, ...]) -> Config:
        """Everything in its Struct."""

        def section(name: str) -> dict[str, Any]:
            return {key.field: self.values[key.dotted] for key in SECTIONS[name].values()}

        api = ApiSettings(**section("api"))
        if api.public_url is not None:
            public = host_of(api.public_url)
            api = structs.replace(api, hosts=tuple(dict.fromkeys((*api.hosts, public))))
        return Config(
            store=StoreSettings(**section("store")),
            events=EventsSettings(**section("events")),
            api=api,
            delivery=DeliverySettings(**section("delivery")),
            egress=EgressSettings(**section("egress")),
            log=LogSettings(**section("log")),
            limits=LimitsSettings(**section("limits")),
            metrics=MetricsSettings(**section("metrics")),
            telemetry=TelemetrySettings(**section("telemetry")),
            event_types=event_types,
        )


def _read_sections(document: Document, settings: _Settings) -> tuple[EventType, ...]:
    """Take the file's settings; returns its catalogue."""

    def wrong(key: Key, item: tuple[int, ...], detail: str) -> None:
        document.wrong((key.section, key.name, *item), detail)

    event_types: tuple[EventType, ...] = ()
    for section, table in document.tree.items():
        if section == "webhook":
            document.wrong((section,), "webhooks stand in files of their own: move it to webhooks.d/NAME.toml")
        elif section != "event_types" and section not in SECTIONS:
            document.wrong((section,), _unknown_key(section, [*SECTIONS, "event_types"]))
        elif not isinstance(table, dict):
            document.wrong((section,), f"expected a table, got {got(table)}: write its keys below a line [{section}]")
        elif section == "event_types":
            event_types = tuple(_read_event_type(document, settings.base, name, table[name]) for name in table)
        else:
            for name, raw in table.items():
                key = SECTIONS[section].get(name)
                if key is None:
                    document.wrong((section, name), _unknown_key(name, SECTIONS[section]))
                else:
                    settings.set(key, raw, partial(wrong, key))
    return event_types


def _read_event_type(document: Document, base: Path, name: str, table: object) -> EventType:
    """One entry of the catalogue, as far as it is right."""
    here = ("event_types", name)
    if not is_event_type(name):
        document.wrong(here, f"is not an event type: {RIGHT_TYPE}")
    if not isinstance(table, dict):
        document.wrong(here, f'expected a table such as {{ description = "A booking was made" }}, got {got(table)}')
        return EventType(name)
    if any(isinstance(value, dict) for key, value in table.items() if key not in _TYPE_KEYS):
        # booking.created without quotes is a table in a table
        document.wrong(here, f'holds tables: put the whole name in quotes, such as [event_types."{name}.created"]')
        return EventType(name)
    for key in table:
        if key not in _TYPE_KEYS:
            document.wrong((*here, key), unknown(key, _TYPE_KEYS))
    description, example = table.get("description", ""), table.get("example")
    if not isinstance(description, str):
        document.wrong((*here, "description"), f'expected text such as "A booking was made", got {got(description)}')
    elif len(description) > 1024:
        document.wrong((*here, "description"), f"is {len(description)} characters long: at most 1024")
    try:
        check_json(example)
    except ValueError as error:
        document.wrong((*here, "example"), str(error))
    schema, text = None, None
    if "schema" in table:
        try:
            schema, text = _read_schema(table["schema"], base)
        except ValueError as error:
            document.wrong((*here, "schema"), str(error))
    return EventType(name, str(description), example, schema, text)


def _read_schema(value: object, base: Path) -> tuple[Path, Any]:
    """The file of a schema, and what it says."""
    if not isinstance(value, str):
        raise ValueError(f'expected a path such as "booking.json", got {got(value)}')  # noqa: TRY004 -- caught above
    file: Path = read_path(value, base)
    try:
        content = read(file, MAX_FILE)
    except OSError as error:
        raise ValueError(f"{shown(str(file))}: {unreadable(error)}") from None
    try:
        schema = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError(f"{shown(str(file))} is not JSON: write a JSON Schema into it") from None
    if not isinstance(schema, dict | bool):
        raise ValueError(f"{shown(str(file))} holds {got(schema)}: a JSON Schema is an object")  # noqa: TRY004 -- caught above
    from hookrelay.rules.schema import compile_schema  # takes 30 ms: only where there are schemas

    try:
        compile_schema(schema)
    except ValueError as error:
        raise ValueError(f"{shown(str(file))} {error}") from None
    return file, schema


def _from_environment(text: str, key: Key) -> object:
    """The raw value that a variable's text stands for, as if it stood in a file."""
    if key.form == "text" or (key.form == "either" and not text.lstrip().startswith("[")) or too_deep(text):
        return text
    try:
        tree = tomllib.loads(f"value = {text}")
        if len(tree) == 1:
            return tree["value"]
    except ValueError:
        pass
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return text  # the key's reader says what it wants instead


def _unknown_key(name: str, known: Collection[str]) -> str:
    elsewhere = [dotted for dotted, key in KEYS.items() if key.name == name]
    return f"is unknown here: did you mean {' or '.join(elsewhere)}?" if elsewhere else unknown(name, known)


def _unknown_variable(name: str) -> str:
    dotted = name.removeprefix(_PREFIX).lower().replace("__", ".", 1)
    near = nearest(dotted, KEYS)
    example = _PREFIX + (near or "delivery.timeout").upper().replace(".", "__")
    return f"is unknown: did you mean {example}?" if near else f"is unknown: keys are written as in {example}"
