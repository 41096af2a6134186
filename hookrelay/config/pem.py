"""Files that TLS rests on: is there PEM in them? Whether key and certificate belong together, `net.trust` finds out."""

import base64
import re
from collections.abc import Callable
from pathlib import Path

from hookrelay.config.files import read, unreadable
from hookrelay.rules.wording import shown

Check = Callable[[str], str | None]

MAX_FILE = 4 << 20
"""Ten times the system's own authorities."""

_BLOCK = re.compile(
    r"^-----BEGIN ([A-Z0-9 ]+)-----[ \t]*\r?\n(.*?)^-----END \1-----[ \t]*\r?$", re.DOTALL | re.MULTILINE
)


def certificates(text: str) -> str | None:
    """What is wrong with a file that should hold certificates, and what would be right. Its text is not repeated."""
    blocks = [body for label, body in _BLOCK.findall(text) if label in ("CERTIFICATE", "TRUSTED CERTIFICATE")]
    if not blocks:
        return "holds no certificate: write PEM into it, which begins with -----BEGIN CERTIFICATE-----"
    if not all(map(_decodes, blocks)):
        return "holds a certificate that is damaged (no base64): write it anew"
    return None


def key(text: str) -> str | None:
    """What is wrong with a file that should hold a private key, and what would be right. Its text is not repeated."""
    blocks = [(label, body) for label, body in _BLOCK.findall(text) if label.endswith("PRIVATE KEY")]
    if not blocks:
        return "holds no private key: write PEM into it, which begins with -----BEGIN PRIVATE KEY-----"
    if any(label.startswith("ENCRYPTED") or "ENCRYPTED" in body for label, body in blocks):
        return "holds a key with a password: store it without one, readable by hookrelay only"
    if not all(_decodes(body) for _, body in blocks):
        return "holds a private key that is damaged (no base64): write it anew"
    return None


def check(folder: Path, name: str, *checks: Check) -> Path:
    """The path of the file `name` in `folder`; ValueError with what the first of `checks` that is not content says."""
    path = folder / name
    try:
        content = read(path, MAX_FILE + 1)
    except OSError as error:
        raise ValueError(f"{shown(name)}: {unreadable(error)}") from None
    if len(content) > MAX_FILE:
        raise ValueError(f"{shown(name)} is longer than {MAX_FILE >> 20} MiB: name a file of PEM")
    text = content.decode("ascii", "replace")
    for each in checks:
        if (wrong := each(text)) is not None:
            raise ValueError(f"{shown(name)} {wrong}")
    return path


def _decodes(body: str) -> bool:
    try:
        return bool(base64.b64decode("".join(body.split()), validate=True))
    except ValueError:
        return False
