"""How many of something bounded each caller holds: no key, and no tenant by its keys, can hold all (THREATS §3)."""

from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from hookrelay.model import Refused
from hookrelay.web.keyring import EVERYBODY, Caller


class Shares:
    """What callers hold for long. Whoever comes by the Unix socket takes nothing of what the others have."""

    def __init__(self, what: str, *, most: int, of_tenant: int, of_key: int) -> None:
        """`what` names what is held, as `streams are open`; a link, or the session that came of it, counts as a key."""
        self._what = what
        self._most = most
        self._of_tenant = of_tenant
        self._of_key = of_key
        self._held: Counter[Hashable] = Counter()

    def check(self, caller: Caller) -> None:
        """Refused where this caller may not hold one more."""
        for owner, most in self._bounds(caller):
            if self._held[owner] >= most:
                if owner in (_LOCAL, _REMOTE):
                    raise Refused("unavailable", f"{most} {self._what}, as many as may be: try again later")
                raise Refused("rate_limited", f"{most} of your {self._what} already: close one")

    @contextmanager
    def held(self, caller: Caller) -> Iterator[None]:
        """One is held for as long as the block lasts."""
        owners = [owner for owner, _ in self._bounds(caller)]
        self._held.update(owners)
        try:
            yield
        finally:
            self._held.subtract(owners)
            for owner in owners:
                if not self._held[owner]:
                    del self._held[owner]

    def _bounds(self, caller: Caller) -> list[tuple[Hashable, int]]:
        key = caller.key_id or caller.session_id
        if key is None:
            return [(_LOCAL, self._most)]
        tenant = ("tenant", caller.tenant or EVERYBODY)
        return [(("key", key), self._of_key), (tenant, self._of_tenant), (_REMOTE, self._most)]


_LOCAL, _REMOTE = "local", "remote"
