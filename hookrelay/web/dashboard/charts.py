"""Numbers over time → the geometry of small drawings. What they look like is the templates' and the style sheet's."""

from collections.abc import Callable, Sequence
from math import ceil, floor, log10

from msgspec import Struct

from hookrelay.rules.tally import OUTCOMES, Totals
from hookrelay.web.dashboard.text import compact, count, milliseconds

WIDTH, HEIGHT = 720, 200
LEFT, TOP, BOTTOM = 52, 8, 24
SPARK_WIDTH, SPARK_HEIGHT = 120, 28

OUTCOME_NAMES = {
    "succeeded": "Succeeded",
    "answered_4xx": "Answered 3xx or 4xx",
    "answered_5xx": "Answered 5xx",
    "timed_out": "Timed out",
    "not_reached": "Not reached",
    "ours": "Interrupted here",
}


class Layer(Struct):
    """One outcome's bars."""

    name: str
    label: str
    path: str
    total: int


class Line(Struct):
    """One percentile over time."""

    name: str
    label: str
    path: str
    dots: list[tuple[float, float]]
    """Values that have no neighbour to be joined with."""


class Tick(Struct):
    """A value on an axis: where it stands, and what is written there."""

    at: float
    label: str


class Chart(Struct, kw_only=True):
    """What a template draws."""

    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    floor: int = HEIGHT - BOTTOM
    layers: list[Layer]
    lines: list[Line]
    ticks: list[Tick]
    moments: list[tuple[float, int]]
    """Marks of the time axis: where, and when (unix milliseconds)."""
    is_empty: bool
    about: str
    """In words, for who does not see it."""
    rows: list[tuple[int, list[str]]]
    """The same as a table: the beginning of each slot (unix milliseconds) and its values."""
    columns: list[str]


class Spark(Struct):
    """A row's little drawing."""

    ok: str
    bad: str
    line: str
    about: str


def spark(slots: Sequence[Totals]) -> Spark:
    """Attempts by how they ended as bars, and the 95th percentile of their time as a line."""
    most = max((slot.attempts for slot in slots), default=0)
    slowest = max((slot.percentile(0.95) or 0.0 for slot in slots), default=0.0)
    step = SPARK_WIDTH / max(len(slots), 1)
    ok, bad, points = [], [], []
    for index, slot in enumerate(slots):
        if not slot.attempts:
            continue
        x, width = _n(index * step), _n(step - 1)
        good = slot.counts[0] / most * SPARK_HEIGHT
        all_of_it = max(slot.attempts / most * SPARK_HEIGHT, 1.5)
        if slot.counts[0]:
            ok.append(_bar(x, SPARK_HEIGHT, width, good))
        if slot.attempts > slot.counts[0]:
            bad.append(_bar(x, SPARK_HEIGHT - good, width, max(all_of_it - good, 1.5)))
        p95 = slot.percentile(0.95)
        if p95 is not None and slowest:
            points.append((index * step + step / 2, SPARK_HEIGHT - 1 - p95 / slowest * (SPARK_HEIGHT - 3)))
    total = sum(slot.attempts for slot in slots)
    failed = total - sum(slot.counts[0] for slot in slots)
    about = (
        f"{count(total)} attempts in 24 hours, {count(failed)} of them failed" if total else "No attempt in 24 hours"
    )
    return Spark("".join(ok), "".join(bad), _joined(points), about)


def outcomes(slots: Sequence[tuple[int, Totals]]) -> Chart:
    """Attempts by outcome, stacked."""
    most = _nice(max((sum(totals.counts) for _, totals in slots), default=0))
    x_of, width = _slots(slots)
    floors = [float(HEIGHT - BOTTOM)] * len(slots)
    layers = []
    for number, name in enumerate(OUTCOMES):
        bars, total = [], 0
        for index, (_, totals) in enumerate(slots):
            value = totals.counts[number]
            if not value:
                continue
            height = max(value / most * (HEIGHT - BOTTOM - TOP), 1.0)
            bars.append(_bar(_n(x_of(index)), floors[index], _n(width - 1.5), height))
            floors[index] -= height
            total += value
        if total or not number:
            layers.append(Layer(name, OUTCOME_NAMES[name], "".join(bars), total))
    total = sum(layer.total for layer in layers)
    said = ", ".join(f"{layer.label.lower()} {count(layer.total)}" for layer in layers if layer.total)
    return Chart(
        layers=layers,
        lines=[],
        ticks=_ticks(most, compact) if total else [],
        moments=_moments(slots, x_of),
        is_empty=not total,
        about=f"Attempts: {said}" if total else "No attempts",
        rows=[
            (start * 1000, [count(totals.counts[OUTCOMES.index(layer.name)]) for layer in layers])
            for start, totals in slots
            if any(totals.counts)
        ],
        columns=[layer.label for layer in layers],
    )


def latencies(slots: Sequence[tuple[int, Totals]]) -> Chart:
    """How long attempts took: the median and the 95th percentile."""
    shares = ((0.5, "p50", "Median"), (0.95, "p95", "95th percentile"))
    found = {name: [totals.percentile(share) for _, totals in slots] for share, name, _ in shares}
    most = _nice(max((value for values in found.values() for value in values if value is not None), default=0.0))
    x_of, width = _slots(slots)
    lines = []
    for _, name, label in shares:
        points = [
            (x_of(index) + width / 2, HEIGHT - BOTTOM - value / most * (HEIGHT - BOTTOM - TOP))
            for index, value in enumerate(found[name])
            if value is not None
        ]
        gap = width * 1.5
        lines.append(Line(name, label, _joined(points, gap), _alone(points, gap)))
    worst = max((value for value in found["p95"] if value is not None), default=None)
    return Chart(
        layers=[],
        lines=lines,
        ticks=[] if worst is None else _ticks(most, milliseconds),
        moments=_moments(slots, x_of),
        is_empty=worst is None,
        about="No attempts" if worst is None else f"The slowest 95th percentile is {milliseconds(worst)}",
        rows=[
            (start * 1000, [milliseconds(found[name][index]) for _, name, _ in shares])
            for index, (start, _) in enumerate(slots)
            if found["p95"][index] is not None
        ],
        columns=[label for _, _, label in shares],
    )


# --- geometry ---------------------------------------------------------------------------------------------------


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _bar(x: str, y: float, width: str, height: float) -> str:
    return f"M{x} {_n(y)}v-{_n(height)}h{width}v{_n(height)}z"


def _joined(points: Sequence[tuple[float, float]], gap: float = 1e9) -> str:
    text, before = [], None
    for x, y in points:
        text.append(f"{'L' if before is not None and x - before <= gap else 'M'}{_n(x)} {_n(y)}")
        before = x
    return "".join(text)


def _alone(points: Sequence[tuple[float, float]], gap: float) -> list[tuple[float, float]]:
    def is_far(index: int, other: int) -> bool:
        return not 0 <= other < len(points) or abs(points[index][0] - points[other][0]) > gap

    return [
        (round(point[0], 1), round(point[1], 1))
        for index, point in enumerate(points)
        if is_far(index, index - 1) and is_far(index, index + 1)
    ]


def _slots(slots: Sequence[object]) -> "tuple[_X, float]":
    width = (WIDTH - LEFT - 4) / max(len(slots), 1)
    return _X(width), width


class _X(Struct):
    width: float

    def __call__(self, index: int) -> float:
        return LEFT + index * self.width


def _moments(slots: Sequence[tuple[int, object]], x_of: _X) -> list[tuple[float, int]]:
    """Five marks at most, each at the beginning of a slot."""
    step = max(1, ceil(len(slots) / 5))
    return [(round(x_of(index), 1), slots[index][0] * 1000) for index in range(0, len(slots), step)]


def _nice(most: float) -> float:
    """The least of 1, 2, 2.5, 5, 10, … that is not below."""
    if most <= 0:
        return 1.0
    unit = 10.0 ** floor(log10(most))
    return next(unit * each for each in (1, 2, 2.5, 5, 10) if unit * each >= most * 0.999999)


def _ticks(most: float, write: Callable[[float], str]) -> list[Tick]:
    height = HEIGHT - BOTTOM - TOP
    values = (0.0, most / 2, most)
    ticks = [
        Tick(round(HEIGHT - BOTTOM - value / most * height, 1), write(value) if value else "0") for value in values
    ]
    # halves of small counts are none
    return [tick for tick, value in zip(ticks, values, strict=True) if write is not compact or value == floor(value)]
