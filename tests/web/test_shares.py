"""Who holds how much of what is bounded: streams and live pages."""

from contextlib import ExitStack

import pytest

from hookrelay.model import Refused
from hookrelay.web.keyring import LOCAL, Caller
from hookrelay.web.shares import Shares


def key(tenant: str | None, id: str) -> Caller:
    return Caller(tenant, "read", id)


def taken(shares: Shares, caller: Caller, stack: ExitStack) -> tuple[int, str]:
    """How many this caller can have, and what it is told then."""
    count = 0
    while True:
        try:
            shares.check(caller)
        except Refused as refused:
            return count, refused.code
        stack.enter_context(shares.held(caller))
        count += 1


def test_one_key_takes_its_share_one_tenant_its_own_and_what_is_left_is_for_others() -> None:
    shares = Shares("streams are open", most=128, of_tenant=64, of_key=16)
    with ExitStack() as stack:
        assert [taken(shares, key("greedy", f"key_{number}"), stack) for number in range(5)] == [
            *[(16, "rate_limited")] * 4,
            (0, "rate_limited"),
        ]
        assert taken(shares, key("other", "key_a"), stack) == (16, "rate_limited")
        assert taken(shares, key(None, "key_o"), stack) == (16, "rate_limited")
        assert taken(shares, Caller("third", "read", None, "ses_link"), stack) == (16, "rate_limited")
        assert taken(shares, key("third", "key_t"), stack) == (16, "rate_limited")
        assert taken(shares, key("fourth", "key_f"), stack) == (0, "unavailable")
        # an operator on the host always gets in
        assert taken(shares, LOCAL, stack) == (128, "unavailable")
    with ExitStack() as stack:
        assert taken(shares, key("fourth", "key_f"), stack) == (16, "rate_limited")


def test_all_sessions_of_one_key_are_that_key() -> None:
    shares = Shares("live pages are open", most=100, of_tenant=50, of_key=16)
    with ExitStack() as stack:
        assert taken(shares, Caller("acme", "read", "key_1", "ses_1"), stack)[0] == 16
        assert taken(shares, Caller("acme", "read", "key_1", "ses_2"), stack)[0] == 0
        assert taken(shares, Caller("acme", "read", "key_2", "ses_3"), stack)[0] == 16


def test_a_refusal_says_how_many_there_may_be_and_what_helps() -> None:
    shares = Shares("streams are open", most=3, of_tenant=2, of_key=1)
    with shares.held(key("acme", "key_1")), pytest.raises(Refused) as caught:
        shares.check(key("acme", "key_1"))
    assert caught.value.detail == "1 of your streams are open already: close one"
