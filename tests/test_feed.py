"""Watchers hear of everything once, and hold a bounded memory."""

from hookrelay.feed import REMEMBERED, Feed, Watcher


def watching(*watchers: Watcher) -> Feed:
    feed = Feed()
    feed.watchers |= set(watchers)
    return feed


def test_a_delivery_is_told_once_however_often_something_becomes_of_it():
    watcher = Watcher(None, wants_deliveries=True)
    feed = watching(watcher)
    for delivery in (1, 2, 1):
        feed.tell_delivery(7, delivery)
    assert watcher.bell.is_set()
    assert watcher.take(10) == [2, 1]
    assert not watcher.bell.is_set()
    assert watcher.take(10) == []


def test_what_is_not_taken_yet_keeps_the_bell_ringing():
    watcher = Watcher(None, wants_deliveries=True)
    feed = watching(watcher)
    for delivery in range(5):
        feed.tell_delivery(7, delivery)
    assert watcher.take(3) == [0, 1, 2]
    assert watcher.bell.is_set()
    assert watcher.take(3) == [3, 4]


def test_a_watcher_of_one_webhook_hears_of_its_deliveries_alone():
    watcher, other = Watcher(7, wants_deliveries=True), Watcher(None, wants_deliveries=False)
    feed = watching(watcher, other)
    feed.tell_delivery(7, 1)
    feed.tell_delivery(8, 2)
    assert watcher.take(10) == [1]
    assert not other.bell.is_set()
    feed.tell_event()
    assert other.bell.is_set()


def test_a_watcher_that_falls_behind_remembers_the_newest_and_how_many_it_missed():
    watcher = Watcher(None, wants_deliveries=True)
    feed = watching(watcher)
    for delivery in range(REMEMBERED + 3):
        feed.tell_delivery(7, delivery)
    assert watcher.missed == 3
    taken = watcher.take(REMEMBERED * 2)
    assert (taken[0], taken[-1], len(taken)) == (3, REMEMBERED + 2, REMEMBERED)
