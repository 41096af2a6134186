"""Every tenant goes at its own pace, and what is known of tenants is bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.rules.rate import parse_rate
from hookrelay.rules.tenants import KNOWN, Paces


def test_a_tenant_that_hurries_waits_and_another_does_not():
    paces = Paces(parse_rate("10/s burst 2"))
    assert [paces.wait_s("a", 100.0) for _ in range(3)] == [0.0, 0.0, pytest.approx(0.1)]
    assert paces.wait_s("b", 100.0) == 0.0
    assert paces.wait_s("a", 100.101) == 0.0
    assert paces.wait_s("a", 100.101) > 0.0


@given(st.lists(st.tuples(st.floats(0, 3), st.sampled_from("abc")), max_size=100))
def test_no_tenant_submits_more_than_its_rate_and_burst_in_any_time(steps: list[tuple[float, str]]):
    paces, now_s = Paces(parse_rate("5/s burst 3")), 1000.0
    taken: dict[str, list[float]] = {"a": [], "b": [], "c": []}
    for pause_s, tenant in steps:
        now_s += pause_s / 10
        if paces.wait_s(tenant, now_s) == 0.0:
            taken[tenant].append(now_s)
    for times in taken.values():
        for first in range(len(times)):
            for last in range(first, len(times)):
                assert last - first + 1 <= 3 + 5 * (times[last] - times[first]) + 1e-6


def test_tenants_that_are_at_rest_are_forgotten():
    paces, now_s = Paces(parse_rate("10/s")), 0.0
    for number in range(10 * KNOWN):
        now_s += 0.001
        assert paces.wait_s(f"t{number}", now_s) == 0.0
    assert len(paces._buckets) <= KNOWN + 2000
