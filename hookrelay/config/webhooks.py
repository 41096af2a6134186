"""The files of `webhooks.d`: their `[[webhook]]` tables → webhooks in force, and every mistake in them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hookrelay.config.files import Document, Tell, read, read_toml, unreadable
from hookrelay.model import ConfigMistake, Webhook, WebhookFields
from hookrelay.rules.webhook import Defaults, decode_secret, file_webhook_id, resolve
from hookrelay.rules.webhook import read as read_fields
from hookrelay.rules.wording import got, shown, unknown

MAX_FILE = 16 << 20
"""Room for about 100,000 webhooks in a file."""
MAX_SECRETS = 10

_SECRET_KEYS = ("secret", "secret_file", "secret_env")
_OWN_KEYS = ("name", "secret_file", "secret_env")
_TABLE_KEYS = frozenset({*_OWN_KEYS, *WebhookFields.__struct_fields__})
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def find_files(folder: Path, *, required: bool, tell: Tell) -> list[Path]:
    """The folder's webhook files by name; hidden ones are an editor's. A missing folder is a mistake if `required`."""
    try:
        return sorted(file for file in folder.iterdir() if file.suffix == ".toml" and not file.name.startswith("."))
    except FileNotFoundError:
        if required:
            tell(ConfigMistake(str(folder), None, "", "there is no such folder: create it, or name another"))
    except OSError as error:
        tell(ConfigMistake(str(folder), None, "", unreadable(error).replace("a file", "a folder")))
    return []


def load_files(
    files: Iterable[Path], *, environ: Mapping[str, str], allow_http: bool, defaults: Defaults, tell: Tell
) -> tuple[Webhook, ...]:
    """The webhooks of all files, in order. Where `tell` was told of any mistake, some are missing."""
    reader = _Reader(environ, allow_http, defaults)
    for file in files:
        document = read_toml(file, MAX_FILE, tell)
        if document is not None:
            reader.take(document, file)
    return tuple(reader.webhooks)


class _Reader:
    """Takes file after file; names must differ over all of them."""

    def __init__(self, environ: Mapping[str, str], allow_http: bool, defaults: Defaults) -> None:
        self.webhooks: list[Webhook] = []
        self._environ = environ
        self._allow_http = allow_http
        self._defaults = defaults
        self._names: dict[str, tuple[Document, int]] = {}

    def take(self, document: Document, file: Path) -> None:
        for key in document.tree:
            if key in _TABLE_KEYS:
                document.wrong((key,), "stands outside a webhook: put a line [[webhook]] above it")
            elif key != "webhook":
                document.wrong((key,), unknown(key, ["webhook"]))
        tables = document.tree.get("webhook", [])
        if not isinstance(tables, list):
            right = "write its header as [[webhook]], with two brackets"
            document.wrong(("webhook",), f"expected a list of tables, got {got(tables)}: {right}")
            return
        for index, table in enumerate(tables):
            if isinstance(table, dict):
                self._take_one(document, index, table, file)
            else:
                document.wrong(("webhook", index), f"expected a table, got {got(table)}: write it below [[webhook]]")

    def _take_one(self, document: Document, index: int, table: dict[str, Any], file: Path) -> None:
        fields, errors = read_fields(table, allow_http=self._allow_http, also=_OWN_KEYS)
        for error in errors:
            key, _, rest = error.field.partition(".")
            inner: Sequence[str | int] = [int(rest) if isinstance(table.get(key), list) else rest] if rest else []
            document.wrong(("webhook", index, key, *inner), error.detail)
        name = self._name(document, index, table)
        secrets = self._secrets(document, index, table, file)
        if fields is not None and name is not None and secrets:
            source = f"file:{file.name}"
            webhook = resolve(fields, id=file_webhook_id(name), source=source, defaults=self._defaults, secrets=secrets)
            self.webhooks.append(webhook)

    def _name(self, document: Document, index: int, table: dict[str, Any]) -> str | None:
        name, here = table.get("name"), ("webhook", index, "name")
        if name is None:
            document.wrong(here, 'is missing: every webhook of a file needs one of its own, such as "accounts"')
        elif not isinstance(name, str):
            document.wrong(here, f'expected a name such as "accounts", got {got(name)}')
        elif not _NAME.fullmatch(name):
            document.wrong(here, f'{shown(name)} is not a name: 1 to 64 of A-Z a-z 0-9 _ . -, such as "accounts"')
        elif name in self._names:
            first, place = self._names[name]
            where = f"{first.file}:{first.line(('webhook', place, 'name'))}"
            document.wrong(here, f"{shown(name)} is taken by the webhook at {where}: give this one another")
        else:
            self._names[name] = document, index
            return name
        return None

    def _secrets(self, document: Document, index: int, table: dict[str, Any], file: Path) -> tuple[bytes, ...]:
        """The keys that sign, newest first; empty after a mistake. No text of a secret enters a mistake."""
        given = [key for key in _SECRET_KEYS if key in table]
        if not given:
            document.wrong(
                ("webhook", index, "secret"),
                "is missing: give one of secret, secret_file (one a line, newest first) and secret_env",
            )
            return ()
        for key in given[1:]:
            document.wrong(("webhook", index, key), f"stands beside {given[0]}: keep one of them")
        key, value = given[0], table[given[0]]
        try:
            if key == "secret":
                # what is wrong with it, `read_fields` has told
                return (decode_secret(value),) if isinstance(value, str) else ()
            return self._from_file(value, file.parent) if key == "secret_file" else self._from_environment(value)
        except ValueError as error:
            if key != "secret":
                document.wrong(("webhook", index, key), str(error))
            return ()

    def _from_file(self, value: object, folder: Path) -> tuple[bytes, ...]:
        if not isinstance(value, str):
            raise ValueError(f'expected a path such as "accounts.secret", got {got(value)}')  # noqa: TRY004 -- caught above
        if value.startswith("whsec_") or not value or "\0" in value:
            raise ValueError('is the path of a file that holds the secret, such as "accounts.secret"')
        try:
            content = read(folder / value, 1 << 16)
        except OSError as error:
            raise ValueError(f"{shown(value)}: {unreadable(error)}") from None
        secrets = []
        for number, line in enumerate(content.splitlines(), 1):
            if line.strip():
                try:
                    secrets.append(decode_secret(line.strip().decode("ascii", "replace")))
                except ValueError as error:
                    raise ValueError(f"line {number} of {shown(value)} {error}") from None
        if not 1 <= len(secrets) <= MAX_SECRETS:
            raise ValueError(f"{shown(value)} holds {len(secrets)} secrets: from 1 to {MAX_SECRETS}, one a line")
        return tuple(secrets)

    def _from_environment(self, value: object) -> tuple[bytes, ...]:
        if not isinstance(value, str) or value.startswith("whsec_") or not _VARIABLE.fullmatch(value):
            raise ValueError('is the name of an environment variable that holds the secret, such as "ACCOUNTS_SECRET"')
        text = self._environ.get(value)
        if text is None:
            raise ValueError(f"there is no environment variable {value}: set it, or use secret_file")
        try:
            return (decode_secret(text),)
        except ValueError as error:
            raise ValueError(f"the environment variable {value} {error}") from None
