import trio

from hookrelay.connections import Connections


class Holder:
    """A lane that wants connections, and gives up idle ones when it is asked."""

    def __init__(self, connections: Connections, *, is_proven: bool = True) -> None:
        self.connections = connections
        self.is_proven = is_proven
        self.own = 0
        self.idle = 0
        self.leaving = 0
        self.wants = 0

    def want(self, count: int = 1) -> int:
        """Take as many as may be had; how many that were."""
        self.wants = count
        before = self.own
        while self.wants and self.connections.take(self, self.own, self.is_proven):
            self.own += 1
            self.wants -= 1
        return self.own - before

    def has_room(self) -> bool:
        return self.wants > 0 and self.want(self.wants) > 0

    def rest(self) -> None:
        self.idle += 1
        self.connections.rest(self)

    def wake(self) -> None:
        self.idle -= 1
        self.connections.wake(self, self.idle)

    def give_up_idle(self) -> None:
        self.wake()
        self.leaving += 1

    def leave(self) -> None:
        """What was asked to go goes, a little later."""
        while self.leaving:
            self.leaving -= 1
            self.close()

    def close(self) -> None:
        self.own -= 1
        self.connections.release()


async def test_greed_ends_where_the_share_does_and_the_reserve_is_left_to_others(autojump_clock):
    connections = Connections(16)
    assert Holder(connections).want(100) == 6
    assert Holder(connections).want(1) == 1


async def test_who_was_refused_is_asked_when_one_becomes_free(autojump_clock):
    connections = Connections(2)
    first, second, third = (Holder(connections) for _ in range(3))
    assert [holder.want() for holder in (first, second, third)] == [1, 1, 0]
    second.close()
    assert (third.own, connections.used) == (1, 2)


async def test_a_lane_without_any_goes_before_one_that_wants_more(autojump_clock):
    connections = Connections(4)
    greedy, *others = (Holder(connections) for _ in range(4))
    assert greedy.want(4) == 2
    assert [holder.want() for holder in others] == [1, 1, 0]
    others[0].close()
    assert [holder.own for holder in (greedy, *others)] == [2, 0, 1, 1]


async def test_one_that_has_found_no_use_for_it_passes_it_on(autojump_clock):
    connections = Connections(1)
    holder, early, late = (Holder(connections) for _ in range(3))
    assert [each.want() for each in (holder, early, late)] == [1, 0, 0]
    early.wants = 0
    holder.close()
    assert (early.own, late.own) == (0, 1)


async def test_for_a_first_connection_the_one_that_began_to_rest_last_makes_room(autojump_clock):
    connections = Connections(3)
    holders = [Holder(connections) for _ in range(3)]
    for holder in holders:
        holder.want()
        holder.rest()
    late = Holder(connections)
    assert late.want() == 1
    for holder in holders:
        holder.leave()
    assert [holder.own for holder in holders] == [1, 1, 0]
    assert (connections.used, connections.idle) == (3, 2)


async def test_for_one_more_only_what_has_rested_for_a_while_makes_room(autojump_clock):
    connections = Connections(16)
    busy, *others = (Holder(connections) for _ in range(16))
    assert busy.want() == 1
    for holder in others:
        holder.want()
        holder.rest()
        await trio.sleep(0.4)
    assert busy.want(5) == 3  # they have rested for 6.0, 5.6 and 5.2 s
    assert [holder.leaving for holder in others] == [1] * 3 + [0] * 12
    busy.wants = 0
    for holder in others:
        holder.leave()
    await trio.sleep(10)
    assert busy.want(5) == 2  # its share


async def test_a_connection_that_works_again_is_not_taken_away(autojump_clock):
    connections = Connections(2)
    busy, idle = Holder(connections), Holder(connections)
    for holder in (busy, idle):
        holder.want()
        holder.rest()
    busy.wake()
    assert Holder(connections).want() == 1
    idle.leave()
    assert (busy.own, idle.own) == (1, 0)


async def test_what_is_unknown_leaves_the_reserve_alone(autojump_clock):
    connections = Connections(8)
    assert sum(Holder(connections, is_proven=False).want() for _ in range(20)) == 6
    assert sum(Holder(connections).want() for _ in range(20)) == 2


async def test_a_lane_that_has_ended_is_not_asked(autojump_clock):
    connections = Connections(1)
    holder, gone = Holder(connections), Holder(connections)
    holder.want()
    gone.want()
    connections.forget(gone)
    holder.close()
    assert gone.own == 0


async def test_a_smaller_budget_closes_nothing_and_lets_nothing_more_in(autojump_clock):
    connections = Connections(10)
    holder = Holder(connections)
    holder.want(3)
    connections.budget = 2
    assert Holder(connections).want() == 0
    assert connections.used == 3
