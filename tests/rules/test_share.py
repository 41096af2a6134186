from hypothesis import given
from hypothesis import strategies as st

from hookrelay.rules.share import may_open


def taken_by_greed(budget: int, webhooks: int, is_proven: bool) -> list[int]:
    """What each has in the end where all open as many as they may, in turn."""
    own = [0] * webhooks
    while True:
        before = list(own)
        for index in range(webhooks):
            if may_open(own[index], budget - sum(own), budget, is_proven):
                own[index] += 1
        if own == before:
            return own


def test_one_webhook_alone_gets_three_eighths_of_the_budget():
    assert taken_by_greed(1000, 1, is_proven=True) == [375]


def test_greedy_webhooks_share_alike_and_leave_the_reserve():
    own = taken_by_greed(1000, 100, is_proven=True)
    assert max(own) - min(own) <= 1
    assert sum(own) <= 750


def test_a_first_connection_of_a_proven_webhook_comes_out_of_the_reserve():
    hogs = sum(taken_by_greed(1000, 5000, is_proven=False))
    assert hogs == 750
    assert may_open(0, 1000 - hogs, 1000, is_proven=True)
    assert not may_open(0, 1000 - hogs, 1000, is_proven=False)


@given(st.integers(1, 200), st.integers(1, 50), st.booleans())
def test_no_webhook_takes_the_whole_budget_and_the_budget_is_never_passed(budget: int, webhooks: int, is_proven: bool):
    own = taken_by_greed(budget, webhooks, is_proven)
    assert sum(own) <= budget
    assert max(own) >= 1
    if budget > 1:
        assert max(own) < budget


@given(st.integers(2, 200))
def test_whatever_one_takes_leaves_another_its_first(budget: int):
    (own,) = taken_by_greed(budget, 1, is_proven=False)
    assert may_open(0, budget - own, budget, is_proven=True)
