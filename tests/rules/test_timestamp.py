from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.rules.timestamp import to_utc


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-02-26T10:00:00Z", "2026-02-26T10:00:00Z"),
        ("2026-02-26t10:00:00z", "2026-02-26T10:00:00Z"),
        ("2026-02-26T10:00:00.120Z", "2026-02-26T10:00:00.120Z"),
        ("2026-02-26T10:00:00.000000001Z", "2026-02-26T10:00:00.000000001Z"),
        ("2026-02-26T10:00:00+00:00", "2026-02-26T10:00:00Z"),
        ("2026-02-26T10:00:00-00:00", "2026-02-26T10:00:00Z"),
        ("2026-02-26T10:00:00.5+05:30", "2026-02-26T04:30:00.5Z"),
        ("2026-02-28T23:30:00-01:00", "2026-03-01T00:30:00Z"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
        ("2026-12-31T23:59:59Z", "2026-12-31T23:59:59Z"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:60Z"),
        ("2016-12-31T23:59:60.25Z", "2016-12-31T23:59:60.25Z"),
        ("2017-01-01T00:59:60+01:00", "2016-12-31T23:59:60Z"),
        ("9999-12-31T23:59:60Z", "9999-12-31T23:59:60Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("0001-01-01T00:00:00-00:01", "0001-01-01T00:01:00Z"),
    ],
)
def test_a_time_is_kept_in_utc_with_its_fraction(text: str, utc: str):
    assert to_utc(text) == utc


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-02-26",
        "2026-02-26T10:00:00",
        "2026-02-26 10:00:00Z",
        "2026-02-26T10:00Z",
        "2026-02-26T10:00:00,5Z",
        "2026-02-26T10:00:00.Z",
        "2026-02-26T10:00:00.0123456789Z",
        "2026-02-26T10:00:00+0530",
        "2026-02-26T10:00:00+24:00",
        "2026-02-26T10:00:00+01:60",
        "2026-02-26T10:00:00Z\n",
        " 2026-02-26T10:00:00Z",
        "2026-02-29T10:00:00Z",
        "2026-02-30T10:00:00Z",
        "2026-04-31T10:00:00Z",
        "2026-00-26T10:00:00Z",
        "2026-13-26T10:00:00Z",
        "2026-02-00T10:00:00Z",
        "2026-02-26T24:00:00Z",
        "2026-02-26T10:60:00Z",
        "2026-02-26T10:00:61Z",
        "2026-02-26T10:00:60Z",
        "2016-12-30T23:59:60Z",
        "2016-12-31T23:59:60+01:00",
        "2016-12-31T23:59:61Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "20260226T100000Z",
        "2026-W09-4T10:00:00Z",
        "２026-02-26T10:00:00Z",  # noqa: RUF001 - a digit, but none of ASCII's
        "1772100000",
    ],
)
def test_what_is_no_rfc_3339_time_is_none(text: str):
    assert to_utc(text) is None


@given(
    st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 12, 31)),
    st.integers(-1439, 1439),
)
def test_any_offset_leads_to_the_same_instant(moment: datetime, offset: int):
    local = moment.replace(tzinfo=timezone(timedelta(minutes=offset)))
    text = to_utc(local.isoformat())
    assert text is not None
    assert text.endswith("Z")
    assert datetime.fromisoformat(text) == local.astimezone(UTC)
