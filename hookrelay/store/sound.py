"""Whether a payload is still what was accepted: a flipped bit on the disk or in memory is never signed and sent.

CRC-32 finds every change of up to 32 bits in a row, and misses one of 4,000,000,000 others. It guards against damage,
not against people: whoever can write to the store can write the hash as well (docs/decisions/0026).
"""

from zlib import crc32

payload_hash = crc32
"""0.4 µs a KiB."""


def is_sound(data: bytes, stored_hash: int | None) -> bool:
    """Whether these are the bytes that were accepted. Events from before there was a hash are taken as they are."""
    return stored_hash is None or crc32(data) == stored_hash
