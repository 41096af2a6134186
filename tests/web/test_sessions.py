"""Sessions and links of the dashboard: who is let in, for how long, and that a link opens once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from builders import wall
from doubles import listening_log, new_store

from hookrelay.store.db import Store
from hookrelay.web.keyring import Caller, Keyring
from hookrelay.web.sessions import LASTS_S, MOST, Sessions


@asynccontextmanager
async def keeping(store: Store | None = None) -> AsyncIterator[tuple[Sessions, Keyring, Store]]:
    store = store or new_store()
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        keyring = Keyring(store, listening_log()[0], wall)
        yield Sessions(store, keyring, wall), keyring, store
        store.close()


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


async def test_what_is_remembered_is_bounded_and_the_oldest_goes_first(autojump_clock, monkeypatch):
    monkeypatch.setattr("hookrelay.web.sessions.MOST", 5)
    assert MOST > 5
    async with keeping() as (sessions, _, _):
        tokens = []
        for _ in range(8):
            await trio.sleep(1)
            tokens.append(await sessions.sign_in(Caller("acme", "read")))
        assert [sessions.check(token) is not None for token in tokens] == [False] * 3 + [True] * 5
