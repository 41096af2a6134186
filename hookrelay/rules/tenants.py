"""How fast may each tenant go? One bucket a tenant, and no more of them than there are tenants that hurry."""

from hookrelay.rules.rate import Rate

KNOWN = 4096
"""Buckets above which those that are full again are dropped: such a tenant has nothing to be held against it."""


class Paces:
    """The buckets of all tenants at one rate."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._buckets: dict[str, float] = {}
        self._sweep_at = KNOWN

    def wait_s(self, tenant: str, now_s: float) -> float:
        """0 where the tenant may go on, which counts; else how many seconds it has to wait."""
        bucket_s = self._buckets.get(tenant, float("-inf"))
        opens_s = self.rate.opens_at(bucket_s)
        if opens_s > now_s:
            return opens_s - now_s
        self._buckets[tenant] = self.rate.spend(bucket_s, now_s)
        if len(self._buckets) > self._sweep_at:
            self._buckets = {name: full_s for name, full_s in self._buckets.items() if full_s > now_s}
            self._sweep_at = max(KNOWN, 2 * len(self._buckets))
        return 0.0
