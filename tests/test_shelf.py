import pytest
from builders import delivery, event

from hookrelay.model import Delivery
from hookrelay.shelf import ALL_BYTES, PAGE, SHELF_BYTES, Shelf


def made(seq: int, size: int = 1, *, is_retry: bool = False, due_ms: int = 0) -> Delivery:
    return delivery(seq, event=event(seq, data=b"1" * size), strikes=int(is_retry), due_ms=due_ms)


def shelf_of(count: int, size: int = 1, **fields: bool) -> Shelf:
    shelf = Shelf()
    for seq in range(1, count + 1):
        shelf.put(made(seq, size, due_ms=seq, **fields))
    return shelf


def test_a_shelf_is_full_at_two_pages_of_first_attempts_however_many_retries_there_are():
    assert not shelf_of(2 * PAGE - 1).is_full(8, 1)
    assert shelf_of(2 * PAGE).is_full(8, 1)
    assert not shelf_of(2 * PAGE, is_retry=True).is_full(8, 1)


@pytest.mark.parametrize(("size", "shelves"), [(SHELF_BYTES, 1), (ALL_BYTES // 1000, 1000)])
def test_payload_is_bounded_for_a_shelf_and_for_all_of_them(size: int, shelves: int):
    assert not shelf_of(1, size).is_full(8, shelves)
    assert shelf_of(9, size // 8).is_full(8, shelves)
    # beside many others each still holds what can be in flight
    assert shelf_of(7, size // 6).is_full(8, shelves) is (shelves == 1)


@pytest.mark.parametrize(
    ("first_ms", "retry_ms", "firsts", "retries", "wants"),
    [
        (None, None, 0, 0, False),
        (99, None, 0, 0, False),
        (50, None, 0, 0, True),
        (None, 50, 0, 0, True),
        (50, None, PAGE, 0, False),
        (50, None, 0, PAGE, True),  # first attempts do not wait behind retries
        (None, 50, 0, PAGE, False),
        (None, 50, PAGE, 0, False),
    ],
)
def test_a_page_is_wanted_when_something_is_due_that_will_be_needed_soon(
    first_ms: int | None, retry_ms: int | None, firsts: int, retries: int, wants: bool
):
    shelf = shelf_of(firsts)
    for seq in range(1, retries + 1):
        shelf.put(made(10_000 + seq, is_retry=True))
    shelf.next_first_ms, shelf.next_retry_ms = first_ms, retry_ms
    assert shelf.wants_page(50, 8, 1) is wants


def test_what_is_given_back_is_expected_again_and_the_longest_due_stay():
    shelf = shelf_of(10)
    shelf.page = 4
    shelf.give_back()
    assert [each.seq for each in shelf.first] == [1, 2, 3, 4]
    assert shelf.taken == {1, 2, 3, 4}
    assert (shelf.bytes, shelf.next_first_ms, shelf.next_retry_ms) == (4, 5, None)


def test_only_what_is_due_sooner_than_all_that_was_known_is_news():
    shelf = Shelf()
    assert shelf.expect(50, is_retry=False)
    assert not shelf.expect(50, is_retry=False)
    assert not shelf.expect(60, is_retry=False)
    assert shelf.expect(60, is_retry=True)
    assert shelf.expect(40, is_retry=False)
    assert (shelf.next_due_ms(), shelf.oldest_due_ms()) == (40, 40)
    shelf.put(made(1, due_ms=30))
    assert shelf.oldest_due_ms() == 30
    assert Shelf().oldest_due_ms() is None
