"""Sessions and links of the dashboard: who is let in, for how long, and that a link opens once."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from builders import wall
from doubles import listening_log, new_store

from hookrelay.store.db import Store
from hookrelay.web.keyring import Caller, Keyring
from hookrelay.web.sessions import LASTS_S, OF_KEY, Sessions


@asynccontextmanager
async def keeping(
    store: Store | None = None, met: Counter[str] | None = None
) -> AsyncIterator[tuple[Sessions, Keyring, Store]]:
    store = store or new_store()
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        keyring = Keyring(store, listening_log()[0], wall)
        limits = Counter[str]() if met is None else met
        yield Sessions(store, keyring, wall, limit_met=lambda limit: limits.update([limit])), keyring, store
        store.close()


async def a_caller(keyring: Keyring, tenant: str) -> Caller:
    """Who holds a new key of this tenant."""
    _, text = await keyring.make("sk_", tenant, "admin", "")
    caller = keyring.check(text.encode())
    assert caller is not None
    return caller


async def test_a_session_is_its_keys_and_ends_with_it_or_after_twelve_hours(autojump_clock):
    async with keeping() as (sessions, keyring, _):
        row, text = await keyring.make("sk_", "acme", "manage", "")
        caller = keyring.check(text.encode())
        assert caller is not None
        tokens = [await sessions.sign_in(caller) for _ in range(2)]
        found = sessions.check(tokens[0])
        assert found is not None
        assert (found.tenant, found.role, found.key_id) == ("acme", "manage", row.id)
        await trio.sleep(LASTS_S - 1)
        assert sessions.check(tokens[0]) is not None
        await trio.sleep(1)
        assert sessions.check(tokens[0]) is None
        token = await sessions.sign_in(caller)
        await keyring.revoke(row)
        assert sessions.check(token) is None


async def test_a_link_is_opened_by_one_of_many_at_once(autojump_clock):
    async with keeping() as (sessions, _, _):
        _, token = await sessions.make_link("acme", "read", 3600)
        opened = []

        async def try_it() -> None:
            opened.append(await sessions.open_link(token))

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(try_it)
        (session,) = [each for each in opened if each is not None]
        assert sessions.check(session) is not None
        assert sessions.check(token) is None
        assert await sessions.open_link(session) is None


async def test_a_links_session_lasts_as_long_as_the_link_and_never_over_twelve_hours(autojump_clock):
    async with keeping() as (sessions, _, _):
        for link_s, session_s in ((3600.0, 3600.0), (7 * 86400.0, LASTS_S)):
            _, token = await sessions.make_link("acme", "read", link_s)
            await trio.sleep(link_s - 1)
            session = await sessions.open_link(token)
            assert session is not None
            await trio.sleep(session_s - 1)
            assert sessions.check(session) is not None
            await trio.sleep(1)
            assert sessions.check(session) is None
            _, token = await sessions.make_link("acme", "read", link_s)
            await trio.sleep(link_s)
            assert await sessions.open_link(token) is None


async def test_what_was_given_out_is_known_after_a_restart_but_what_has_ended_is_not(autojump_clock):
    store = new_store()
    async with keeping(store) as (sessions, keyring, _):
        _, link = await sessions.make_link("acme", "read", 3600)
        _, short = await sessions.make_link("acme", "read", 60)
        ended, gone = await sessions.make_link("acme", "read", 3600)
        await sessions.end(ended.id, "link.revoked")
        session = await sessions.sign_in(Caller(None, "admin"))
        await trio.sleep(120)
        later = Sessions(store, keyring, wall)
        await later.restore()
        assert await later.open_link(short) is None
        assert await later.open_link(gone) is None
        assert await later.open_link(link) is not None
        found = later.check(session)
        assert found is not None
        assert (found.tenant, found.role) == (None, "admin")


async def test_of_one_keys_sessions_the_one_that_was_not_used_for_longest_goes_and_of_no_other(autojump_clock):
    met = Counter[str]()
    async with keeping(met=met) as (sessions, keyring, store):
        greedy, beside, other = [await a_caller(keyring, tenant) for tenant in ("greedy", "greedy", "other")]
        kept = [await sessions.sign_in(beside), await sessions.sign_in(other)]
        _, link = await sessions.make_link("greedy", "read", 3600)
        tokens = [await sessions.sign_in(greedy) for _ in range(OF_KEY)]
        assert not met
        assert sessions.check(tokens[0]) is not None  # so it is not the one that goes
        tokens += [await sessions.sign_in(greedy) for _ in range(2 * OF_KEY)]
        assert [sessions.check(token) is not None for token in tokens] == [False] * 2 * OF_KEY + [True] * OF_KEY
        assert met == {"sessions": 2 * OF_KEY}
        later = Sessions(store, keyring, wall)
        await later.restore()
        for each in (sessions, later):  # what went does not come back with a restart
            assert sum(each.check(token) is not None for token in tokens) == OF_KEY
            assert None not in [each.check(token) for token in kept]
        assert await sessions.open_link(link) is not None


async def test_sign_ins_of_a_key_burn_no_tenants_unopened_links(autojump_clock):
    async with keeping() as (sessions, keyring, _):
        links = [(await sessions.make_link(tenant, "read", 3600))[1] for tenant in ("acme", "other")]
        caller = await a_caller(keyring, "acme")
        for _ in range(3 * OF_KEY):
            await sessions.sign_in(caller)
        assert None not in [await sessions.open_link(link) for link in links]


async def test_links_make_room_for_links_of_the_same_tenant_only(autojump_clock):
    async with keeping() as (sessions, _, _):
        _, other = await sessions.make_link("other", "read", 3600)
        opened = await sessions.open_link((await sessions.make_link("acme", "read", 3600))[1])
        assert opened is not None
        tokens = []
        for _ in range(OF_KEY + 20):
            tokens.append((await sessions.make_link("acme", "read", 3600))[1])
            assert sessions.check(opened) is not None  # it is in use: links that nobody opened go first
        found = [await sessions.open_link(token) is not None for token in tokens]
        assert found == [False] * 21 + [True] * (OF_KEY - 1)
        assert await sessions.open_link(other) is not None


async def test_a_tenant_that_makes_many_keys_has_so_many_sessions_and_no_more(autojump_clock, monkeypatch):
    monkeypatch.setattr("hookrelay.web.sessions.OF_KEY", 5)
    monkeypatch.setattr("hookrelay.web.sessions.OF_TENANT", 12)
    async with keeping() as (sessions, keyring, _):
        theirs = await sessions.sign_in(await a_caller(keyring, "other"))
        tokens = []
        for _ in range(5):
            caller = await a_caller(keyring, "acme")
            tokens += [await sessions.sign_in(caller) for _ in range(5)]
        assert [sessions.check(token) is not None for token in tokens] == [False] * 13 + [True] * 12
        assert sessions.check(theirs) is not None


async def test_many_who_sign_in_at_once_are_bounded_too(autojump_clock):
    async with keeping() as (sessions, keyring, _):
        caller = await a_caller(keyring, "acme")
        async with trio.open_nursery() as nursery:
            for _ in range(3 * OF_KEY):
                nursery.start_soon(sessions.sign_in, caller)
                nursery.start_soon(sessions.make_link, "acme", "read", 3600.0)
        assert len(sessions._by_id) == 2 * OF_KEY
