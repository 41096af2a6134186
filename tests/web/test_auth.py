"""Who may call: keys, and how often an address may show wrong ones."""

import hashlib

import trio
from builders import wall
from doubles import listening_log, new_store

from hookrelay.store import keys
from hookrelay.web.auth import ADDRESSES_KNOWN, Throttle, _without_port, network_of
from hookrelay.web.keyring import Caller, Keyring


async def test_after_twenty_wrong_keys_an_address_waits_and_another_does_not(autojump_clock):
    throttle = Throttle()
    assert [throttle.wait_s("a") for _ in range(20)] == [None] * 20
    wait_s = throttle.wait_s("a")
    assert wait_s is not None
    assert 0 < wait_s <= 10
    assert throttle.wait_s("b") is None
    await trio.sleep(wait_s)
    assert throttle.wait_s("a") is None
    assert throttle.wait_s("a") is not None


async def test_the_addresses_that_are_remembered_are_bounded(autojump_clock):
    throttle = Throttle()
    for number in range(ADDRESSES_KNOWN + 50):
        throttle.wait_s(str(number))
    assert len(throttle._buckets) == ADDRESSES_KNOWN


def test_an_owner_of_ipv6_addresses_counts_as_one():
    assert network_of(("2001:db8:1:2:3:4:5:6", 1)) == network_of(("2001:db8:1:2:ffff::1", 1))
    assert network_of(("192.0.2.1", 1)) != network_of(("192.0.2.2", 1))


def test_a_host_is_compared_without_its_port():
    assert [_without_port(host) for host in ("a", "a:1", "[::1]:80", "[::1]", "")] == ["a", "a", "[::1]", "[::1]", ""]


async def test_a_key_opens_until_it_is_revoked_and_only_its_digest_is_kept(autojump_clock):
    store = new_store()
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        keyring = Keyring(store, listening_log()[0], wall)
        row, text = await keyring.make("hookrelay_live_sk_", "acme", "manage", "n")
        assert text.startswith("hookrelay_live_sk_")
        assert (len(text), text[-4:]) == (18 + 32, row.hint)
        assert keyring.check(text.encode()) == Caller("acme", "manage", row.id)
        for wrong in (text[:-1], text + "x", text.swapcase(), "", "é" * 50):
            assert keyring.check(wrong.encode()) is None
        (kept,) = await store.read(keys.all_keys)
        assert kept.digest == hashlib.sha256(text.encode()).digest()
        assert text not in repr(kept)

        again = Keyring(store, listening_log()[0], wall)
        await again.restore()
        assert again.check(text.encode()) == Caller("acme", "manage", row.id)
        await again.revoke(row)
        assert again.check(text.encode()) is None
        assert await store.read(keys.all_keys) == []
        everybody, text = await again.make("p_", "*", "admin", "")
        assert again.check(text.encode()) == Caller(None, "admin", everybody.id)
        store.close()


async def test_when_a_key_was_last_used_is_written_down_within_a_minute_and_at_the_end(autojump_clock):
    store = new_store()
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        keyring = Keyring(store, listening_log()[0], wall)
        row, text = await keyring.make("p_", "acme", "read", "")
        async with trio.open_nursery() as root:
            root.start_soon(keyring.run)
            await trio.sleep(5)
            keyring.check(text.encode())
            used_ms = int(wall() * 1000)
            await trio.sleep(60)
            assert [each.last_used_ms for each in await store.read(keys.all_keys)] == [used_ms]
            keyring.check(text.encode())
            last_ms = int(wall() * 1000)
            root.cancel_scope.cancel()
        assert [each.last_used_ms for each in await store.read(keys.all_keys)] == [last_ms]
        found = keyring.find(row.id)
        assert found is not None
        assert found.last_used_ms == last_ms
        store.close()
