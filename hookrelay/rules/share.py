"""May this webhook open one more connection? The budget of all of them, shared so that none can take it whole."""

RESERVED = 4
"""This part of the budget is kept for first connections of webhooks whose receivers have answered well."""


def may_open(own: int, room: int, budget: int, is_proven: bool) -> bool:
    """Whether a webhook with `own` connections may open another while `room` of the `budget` are free or idle.

    Each gets as many as are left beyond the reserve, so that whoever is greedy leaves at least as much as it takes:
    alone it gets three eighths of the budget, beside `n - 1` others that are as greedy 3/4 / (n + 1). A first
    connection comes out of the reserve too where `is_proven`: what hangs has not been, or not for long.
    """
    reserve = budget // RESERVED
    if own:
        return own < room - reserve
    return room > (0 if is_proven else reserve)
