import re

from hypothesis import given
from hypothesis import strategies as st

from hookrelay.rules.tally import NOTHING, RANGES, counter, totals
from hookrelay.web.dashboard.charts import BOTTOM, HEIGHT, LEFT, SPARK_HEIGHT, TOP, WIDTH, latencies, outcomes, spark

SLOTS = st.lists(
    st.dictionaries(
        st.builds(lambda outcome, range: outcome * RANGES + range, st.integers(0, 5), st.integers(0, 28)),
        st.integers(1, 10_000_000),
        max_size=6,
    ).map(totals),
    min_size=1,
    max_size=48,
)


def bars(path: str) -> list[tuple[float, float, float, float]]:
    """x, top, width and height of each bar."""
    found = re.findall(r"M([\d.]+) ([\d.]+)v-([\d.]+)h([\d.]+)v", path)
    return [(float(x), float(y) - float(h), float(w), float(h)) for x, y, h, w in found]


def timed(slots):
    return [(1_800_000_000 + 1800 * index, slot) for index, slot in enumerate(slots)]


def test_nothing_is_drawn_where_nothing_was():
    chart = outcomes(timed([NOTHING] * 48))
    assert (chart.is_empty, chart.ticks, chart.rows, chart.about) == (True, [], [], "No attempts")
    assert latencies(timed([NOTHING] * 48)).is_empty
    small = spark([NOTHING] * 24)
    assert (small.ok, small.bad, small.line, small.about) == ("", "", "", "No attempt in 24 hours")


@given(SLOTS)
def test_every_bar_stands_in_the_drawing_and_on_the_one_below(slots):
    chart = outcomes(timed(slots))
    tops: dict[float, float] = {}
    for layer in chart.layers:
        for x, top, width, height in bars(layer.path):
            assert x >= LEFT
            assert x + width <= WIDTH
            assert abs(tops.get(x, HEIGHT - BOTTOM) - (top + height)) < 0.3
            tops[x] = top
    # a bar of one attempt beside millions is still seen: six of them may stand a little higher than the scale
    assert all(top > TOP - 7 for top in tops.values())
    assert sum(layer.total for layer in chart.layers) == sum(sum(slot.counts) for slot in slots)


@given(SLOTS)
def test_the_scale_reaches_over_the_highest_and_not_far(slots):
    chart = outcomes(timed(slots))
    most = max(sum(slot.counts) for slot in slots)
    if most:
        number, _, unit = chart.ticks[-1].label.replace("\u202f", "").partition(" ")
        top = float(number) * {"": 1, "k": 1e3, "M": 1e6}[unit]
        assert most <= top <= 2.5 * most


@given(SLOTS)
def test_the_line_of_a_percentile_stays_in_the_drawing(slots):
    for line in latencies(timed(slots)).lines:
        points = [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", line.path)]
        for x, y in [*points, *line.dots]:
            assert LEFT <= x <= WIDTH
            assert TOP - 0.1 <= y <= HEIGHT - BOTTOM + 0.1


def test_a_value_without_neighbours_is_a_dot():
    slot = totals({counter(0, 0.1): 1})
    lines = latencies(timed([slot, NOTHING, NOTHING, slot, slot])).lines
    assert [len(line.dots) for line in lines] == [1, 1]
    assert [line.path.count("L") for line in lines] == [1, 1]


@given(SLOTS)
def test_a_rows_drawing_is_small_and_tells_its_numbers(slots):
    small = spark(slots)
    for x, top, width, height in bars(small.ok) + bars(small.bad):
        assert x >= 0
        assert width > 0
        assert top >= -2
        assert top + height <= SPARK_HEIGHT + 0.1
    assert len(small.ok + small.bad + small.line) < 3500
    failed = sum(slot.attempts - slot.counts[0] for slot in slots)
    assert not failed or small.bad
