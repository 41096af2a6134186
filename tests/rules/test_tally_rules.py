from bisect import bisect_left
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.rules.tally import (
    BOUNDS_MS,
    NOTHING,
    OURS,
    OUTCOMES,
    counter,
    outcome_of,
    scope_of_tenant,
    totals,
)


@pytest.mark.parametrize(
    ("error", "code", "outcome"),
    [
        (None, 200, "succeeded"),
        (None, 299, "succeeded"),
        ("http_status", 302, "answered_4xx"),
        ("http_status", 404, "answered_4xx"),
        ("http_status", 410, "answered_4xx"),
        ("http_status", 500, "answered_5xx"),
        ("http_status", 599, "answered_5xx"),
        ("timeout", None, "timed_out"),
        ("connect_timeout", None, "timed_out"),
        ("dns_error", None, "not_reached"),
        ("egress_blocked", None, "not_reached"),
        ("connect_refused", None, "not_reached"),
        ("connect_error", None, "not_reached"),
        ("tls_error", None, "not_reached"),
        ("reset", None, "not_reached"),
        ("protocol_error", None, "not_reached"),
        ("interrupted", None, "ours"),
        ("local_fault", None, "ours"),
    ],
)
def test_each_code_has_its_outcome(error, code, outcome):
    assert OUTCOMES[outcome_of(error, code)] == outcome


def test_without_attempts_there_is_no_rate_and_no_percentile():
    assert (NOTHING.attempts, NOTHING.success_rate, NOTHING.percentile(0.95)) == (0, None, None)


def test_what_was_our_fault_is_shown_and_is_no_attempt_of_the_receiver():
    found = totals({counter(OURS, 9.0): 5, counter(0, 0.010): 1})
    assert (found.counts[OURS], found.attempts, found.success_rate) == (5, 1, 1.0)
    assert found.percentile(0.99) <= 10


def test_counters_of_a_later_version_are_passed_over():
    assert totals({10_000: 3, 60: 2, counter(0, 0.001): 1}).attempts == 1


@given(st.lists(st.floats(0.0, 100.0), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_a_percentile_lies_in_the_range_of_the_true_one(durations_s, share):
    found = totals(Counter(counter(0, each) for each in durations_s)).percentile(share)
    wanted = share * len(durations_s)
    true_ms = next(
        each for number, each in enumerate(sorted(each * 1000 for each in durations_s), 1) if number >= wanted
    )
    index = bisect_left(BOUNDS_MS, true_ms * (1 - 1e-12))
    low = BOUNDS_MS[index - 1] if index else 0.0
    high = BOUNDS_MS[index] if index < len(BOUNDS_MS) else 60_000.0
    assert low * 0.999 <= found <= high * 1.001


@given(st.lists(st.dictionaries(st.integers(0, 500), st.integers(0, 1000)), max_size=5))
def test_it_does_not_matter_in_which_order_totals_are_added(each):
    whole = Counter()
    for counted in each:
        whole.update(counted)
    sums = [totals(counted) for counted in each]
    assert sum(sums, NOTHING) == sum(reversed(sums), NOTHING) == totals(whole)


def test_tenants_have_scopes_of_their_own_below_zero():
    scopes = {scope_of_tenant(f"tenant{number}") for number in range(10_000)}
    assert len(scopes) == 10_000
    assert max(scopes) < 0
    assert min(scopes) >= -(1 << 63)
