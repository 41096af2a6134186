"""What a file of keys says: the content of `store.key_file`."""

import base64
import binascii

KEY_BYTES = 32


def read_keys(content: bytes) -> tuple[bytes, ...]:
    """The keys, one a line, newest first: base64 of 32 random bytes each. Blank lines and those with # are skipped.

    The ValueError says which line is wrong and what would be right, and nothing of the key.
    """
    right = "each line is the base64 of 32 random bytes, as `openssl rand -base64 32` prints it"
    keys = []
    for number, line in enumerate(content.splitlines(), 1):
        text = line.strip()
        if not text or text.startswith(b"#"):
            continue
        try:
            key = base64.b64decode(text, validate=True)
        except binascii.Error:
            raise ValueError(f"line {number} is not base64: {right}") from None
        if len(key) != KEY_BYTES:
            raise ValueError(f"line {number} holds {len(key)} bytes: {right}")
        keys.append(key)
    if not keys:
        raise ValueError(f"holds no key: {right}")
    return tuple(keys)
