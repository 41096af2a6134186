"""Secrets at rest: sealed with AES-256-GCM where there is a key, so that a copied database tells nothing of them."""

import hashlib
import os
from collections.abc import Sequence

PLAIN = b"\x00"
SEALED = b"\x01"
_DAMAGED = "the sealed secrets of {} are damaged: restore the store from a backup"
_ID = 4
_NONCE = 12


class CannotOpen(Exception):
    """What was sealed cannot be read; says what to do."""


class Seal:
    """Closes with the newest key, opens with any of them. Without keys all is plain."""

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        self._ids = [hashlib.sha256(key).digest()[:_ID] for key in keys]
        self._ciphers = []
        if keys:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # takes 40 ms: only where there are keys

            self._ciphers = [AESGCM(key) for key in keys]

    @property
    def is_on(self) -> bool:
        """Whether there are keys."""
        return bool(self._ids)

    def close(self, text: bytes, owner: str) -> bytes:
        """`text`, sealed for `owner` alone."""
        if not self._ciphers:
            return PLAIN + text
        nonce = os.urandom(_NONCE)
        return SEALED + self._ids[0] + nonce + self._ciphers[0].encrypt(nonce, text, owner.encode())

    def open(self, blob: bytes, owner: str, *, may_be_plain: bool = True) -> bytes:
        """What was sealed for `owner`. CannotOpen says why not.

        Not `may_be_plain`: where there is a key, what is in plain was written by somebody who has none.
        """
        if blob[:1] == PLAIN:
            if self._ciphers and not may_be_plain:
                raise CannotOpen(
                    f"the secrets of {owner} are kept in plain, and this store's were all sealed: somebody without the"
                    " key has written them. Restore a backup; without store.key_file the store opens as it is"
                )
            return blob[1:]
        if not self._ciphers:
            raise CannotOpen(f"the secrets of {owner} are sealed: set store.key_file to the file with their key")
        if blob[:1] != SEALED:
            raise CannotOpen(_DAMAGED.format(owner))
        id, nonce, sealed = blob[1 : 1 + _ID], blob[1 + _ID : 1 + _ID + _NONCE], blob[1 + _ID + _NONCE :]
        from cryptography.exceptions import InvalidTag

        for own, cipher in zip(self._ids, self._ciphers, strict=True):
            if own == id:
                try:
                    return cipher.decrypt(nonce, sealed, owner.encode())
                except (InvalidTag, ValueError):  # the latter where it was cut short
                    break
        else:
            raise CannotOpen(f"the secrets of {owner} are sealed with a key that store.key_file lacks: add it there")
        raise CannotOpen(_DAMAGED.format(owner))

    def is_current(self, blob: bytes) -> bool:
        """Whether it is sealed as `close` would."""
        return blob[1 : 1 + _ID] == self._ids[0] and blob[:1] == SEALED if self._ids else blob[:1] == PLAIN
