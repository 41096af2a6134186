"""Room for bodies: small ones always find some, and who holds most gives theirs up."""

from hypothesis import given
from hypothesis import strategies as st

from hookrelay.net.bodies import Bodies

MOST, FREE = 1000, 50


def test_a_large_body_of_another_owner_finds_room_however_many_one_has_begun():
    bodies = Bodies[int](MOST, FREE)
    for who in range(5):
        assert bodies.hold(who, "a", 100) is None
    assert bodies.hold(5, "a", 60) == 0  # more than half: the first of a's largest
    bodies.release(0)
    assert bodies.hold(6, "b", 500) is None
    assert bodies.hold(7, "c", 60) == 6  # b holds most by now
    bodies.release(6)
    assert bodies.hold(7, "c", 500) is None


def test_a_body_that_is_whole_is_not_taken_back_and_counts_for_its_owner():
    bodies = Bodies[int](MOST, FREE)
    assert bodies.hold(0, "a", 500) is None
    bodies.settle(0)
    assert bodies.hold(1, "a", 51) == 1
    bodies.release(1)
    bodies.release(0)
    assert bodies.hold(1, "a", 500) is None


@given(
    st.lists(
        st.tuples(
            st.integers(0, 9), st.integers(1, 400), st.sampled_from(["grow", "grow", "grow", "settle", "release"])
        )
    )
)
def test_there_is_never_more_than_all_nor_more_than_half_for_one_and_small_ones_are_let_in(steps):
    bodies, sizes, whole = Bodies[int](MOST, FREE), dict[int, int](), set[int]()
    for who, more, what in steps:
        if what == "release" or (what == "grow" and who in whole):
            bodies.release(who)
            sizes.pop(who, None)
            whole.discard(who)
        elif what == "settle":
            bodies.settle(who)
            whole |= {who} & sizes.keys()
        else:
            sizes[who] = sizes.get(who, 0) + more
            if sizes[who] <= FREE:
                assert bodies.hold(who, who % 3, sizes[who]) is None
            while who in sizes and (victim := bodies.hold(who, who % 3, sizes[who])) is not None:
                assert victim not in whole
                assert sizes.pop(victim) > FREE
                bodies.release(victim)
        large = {each: size for each, size in sizes.items() if size > FREE}
        assert sum(large.values()) <= MOST
        for owner in range(3):
            assert sum(size for each, size in large.items() if each % 3 == owner) <= MOST // 2
