from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.units import format_duration, format_size, format_time, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("1ms", 0.001),
        ("500ms", 0.5),
        ("30s", 30),
        ("1.5s", 1.5),
        ("0.25m", 15),
        ("5m", 300),
        ("24h", 86_400),
        ("7d", 604_800),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "s",
        "5 s",
        " 5s",
        "5s\n",
        "-5s",
        "+5s",
        "05s",
        "5S",
        "1e3s",
        "5w",
        ".5s",
        "5.s",
        "1.2345s",
        "٣s",
        "12345678901s",
    ],
)
def test_what_is_no_duration_is_told_what_is_right(text: str):
    with pytest.raises(ValueError, match='such as "500ms"'):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.5, "500ms"),
        (1, "1s"),
        (1.5, "1500ms"),
        (60, "60s"),
        (90, "90s"),
        (300, "5m"),
        (3600, "1h"),
        (86_400, "24h"),
        (172_800, "2d"),
        (604_800, "7d"),
    ],
)
def test_a_duration_is_written_short_and_whole(seconds: float, text: str):
    assert format_duration(seconds) == text


@given(st.integers(0, 10**10 - 1))
def test_a_duration_comes_back_as_it_was_written(ms: int):
    assert round(parse_duration(format_duration(ms / 1000)) * 1000) == ms


@pytest.mark.parametrize(
    ("text", "count"),
    [("0B", 0), ("1B", 1), ("256KiB", 262_144), ("10GiB", 10 << 30), ("2TiB", 2 << 40), ("3MiB", 3 << 20)],
)
def test_a_size_is_a_whole_number_and_a_unit(text: str, count: int):
    assert parse_size(text) == count
    assert format_size(count) == text


@pytest.mark.parametrize("text", ["", "5", "5KB", "5 KiB", "1.5KiB", "-1B", "01B", "5kib", "5KiB\n", "٣B"])
def test_what_is_no_size_is_told_what_is_right(text: str):
    with pytest.raises(ValueError, match='such as "256KiB"'):
        parse_size(text)


@given(st.integers(0, 10**12 - 1))
def test_a_size_comes_back_as_it_was_written(count: int):
    assert parse_size(format_size(count)) == count


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1, "1970-01-01T00:00:00.001Z"),
        (1_772_100_000_250, "2026-02-26T10:00:00.250Z"),
    ],
)
def test_a_time_is_written_in_utc_with_milliseconds(ms: int, text: str):
    assert format_time(ms) == text


@given(st.integers(0, 253_402_300_799_999))
def test_a_time_comes_back_as_it_was_written(ms: int):
    moment = datetime.fromisoformat(format_time(ms))
    assert moment.tzinfo == UTC
    assert round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000) == ms
