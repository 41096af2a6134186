"""The files of `webhooks.d`: their `[[webhook]]` tables → webhooks in force, and every mistake in them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from hookrelay.config import pem
from hookrelay.config.files import Document, Tell, read, read_toml, unreadable
from hookrelay.model import ConfigMistake, Trust, Webhook, WebhookFields
from hookrelay.rules.egress import Policy
from hookrelay.rules.webhook import Defaults, decode_secret, file_webhook_id, resolve
from hookrelay.rules.webhook import read as read_fields
from hookrelay.rules.wording import got, shown, unknown

MAX_FILE = 16 << 20
"""Room for about 100,000 webhooks in a file."""
MAX_SECRETS = 10

Word = TypeVar("Word", bound=str)

_SECRET_KEYS = ("secret", "secret_file", "secret_env")
_OWN_KEYS = ("name", "status", "held", "secret_file", "secret_env", "ca_file", "client_cert_file", "client_key_file")
_TABLE_KEYS = frozenset({*_OWN_KEYS, *WebhookFields.__struct_fields__})
_TRUST_CHECKS: dict[str, tuple[pem.Check, ...]] = {
    "ca_file": (pem.certificates,),
    "client_cert_file": (pem.certificates,),
    "client_key_file": (pem.key,),
}
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
    files: Iterable[Path], *, environ: Mapping[str, str], policy: Policy, defaults: Defaults, tell: Tell
) -> tuple[Webhook, ...]:
    """The webhooks of all files, in order. Where `tell` was told of any mistake, some are missing."""
    reader = _Reader(environ, policy, defaults)
    for file in files:
        document = read_toml(file, MAX_FILE, tell)
        if document is not None:
            reader.take(document, file)
    return tuple(reader.webhooks)


class _Reader:
    """Takes file after file; names must differ over all of them."""

    def __init__(self, environ: Mapping[str, str], policy: Policy, defaults: Defaults) -> None:
        self.webhooks: list[Webhook] = []
        self._environ = environ
        self._policy = policy
        self._defaults = defaults
        self._names: dict[str, tuple[Document, int]] = {}
        self._pem_files: set[tuple[Path, tuple[pem.Check, ...]]] = set()

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
        fields, errors = read_fields(table, policy=self._policy, also=_OWN_KEYS)
        for error in errors:
            key, _, rest = error.field.partition(".")
            inner: Sequence[str | int] = [int(rest) if isinstance(table.get(key), list) else rest] if rest else []
            document.wrong(("webhook", index, key, *inner), error.detail)
        name = self._name(document, index, table)
        secrets = self._secrets(document, index, table, file)
        status: Literal["active", "paused"] = self._word(document, index, table, "status", ("active", "paused"))
        held: Literal["deliver", "discard"] = self._word(document, index, table, "held", ("deliver", "discard"))
        trust = self._trust(document, index, table, file.parent)
        if fields is not None and name is not None and secrets:
            self.webhooks.append(
                resolve(
                    fields,
                    id=file_webhook_id(name),
                    name=name,
                    source=f"file:{file.name}",
                    defaults=self._defaults,
                    secrets=secrets,
                    status=status,
                    held=held,
                    trust=trust,
                )
            )

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

    def _word(self, document: Document, index: int, table: dict[str, Any], key: str, words: tuple[Word, Word]) -> Word:
        """One of two words; the first where nothing is said, or nothing right."""
        said = table.get(key, words[0])
        for word in words:
            if said == word:
                return word
        what = shown(said) if isinstance(said, str) else got(said)
        document.wrong(("webhook", index, key), f'{what} is no {key}: write "{words[0]}" or "{words[1]}"')
        return words[0]

    def _trust(self, document: Document, index: int, table: dict[str, Any], folder: Path) -> Trust | None:
        """What TLS to the webhook rests on; after a mistake whatever was right of it."""
        paths: dict[str, str] = {}
        for key, checks in _TRUST_CHECKS.items():
            if key not in table:
                continue
            if key == "client_cert_file" and "client_key_file" not in table:
                checks = (*checks, pem.key)  # a file may hold both
            try:
                paths[key] = self._pem_file(table[key], folder, checks)
            except ValueError as error:
                document.wrong(("webhook", index, key), str(error))
        if "client_key_file" in table and "client_cert_file" not in table:
            right = "name the certificate that it belongs to as client_cert_file"
            document.wrong(("webhook", index, "client_key_file"), f"stands without a client_cert_file: {right}")
        if not paths:
            return None
        return Trust(paths.get("ca_file"), paths.get("client_cert_file"), paths.get("client_key_file"))

    def _pem_file(self, value: object, folder: Path, checks: tuple[pem.Check, ...]) -> str:
        if not isinstance(value, str):
            raise ValueError(f'expected a path such as "accounts.pem", got {got(value)}')  # noqa: TRY004 -- caught above
        if not value or "\0" in value or "\n" in value:
            raise ValueError('is the path of a file that holds PEM, such as "accounts.pem"')
        file = folder.absolute() / value
        # many webhooks share a file
        if (file, checks) not in self._pem_files:
            pem.check(folder.absolute(), value, *checks)
            self._pem_files.add((file, checks))
        return str(file)

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
