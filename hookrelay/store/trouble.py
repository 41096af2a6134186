"""What ails the host as SQLite tells it, and what callers are told of that. Foreign exceptions end here."""

import apsw

from hookrelay.model import LocalTrouble, Refused
from hookrelay.store.files import StoreDamaged

PASSING = (
    apsw.IOError,
    apsw.FullError,
    apsw.ReadOnlyError,
    apsw.CantOpenError,
    apsw.BusyError,
    apsw.LockedError,
    apsw.NoMemError,
    MemoryError,
)
"""Errors that the host may recover from."""
DAMAGE = (apsw.CorruptError, apsw.NotADBError, apsw.FormatError)
"""What SQLite says of a file that is not what it wrote."""


def told(error: Exception) -> Exception:
    """LocalTrouble where the host may recover from `error`, else the error itself."""
    if isinstance(error, apsw.FullError):
        return LocalTrouble("store_full", str(error))
    if isinstance(error, apsw.NoMemError | MemoryError):
        return LocalTrouble("memory", "no memory")
    if isinstance(error, PASSING):
        return LocalTrouble("store_io", str(error))
    return error


def refusal(trouble: LocalTrouble) -> Refused:
    """What a caller is told whose work was undone by it."""
    if trouble.kind == "store_full":
        return Refused("store_full", "the store has no room left: send the event again when there is some")
    return Refused("unavailable", f"the store cannot be used just now ({trouble.detail}): try again")


def damaged(path: str, error: Exception) -> StoreDamaged:
    """SQLite found its file damaged: nothing sound can be done after that."""
    return StoreDamaged(f"{path}: {error}: restore it from a backup")
