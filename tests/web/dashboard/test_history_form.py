"""What people type into the form that narrows the history."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.web.dashboard.history import FILTERS, _wanted, local_ms

NOW_MS = 1_800_000_000_000


@pytest.mark.parametrize(
    ("text", "zone", "ms"),
    [
        ("2026-02-26T10:00", "0", 1_772_100_000_000),
        ("2026-02-26T10:00", "-60", 1_772_096_400_000),
        ("2026-02-26T10:00", "300", 1_772_118_000_000),
        ("2026-02-26T10:00:30.5", "", 1_772_100_030_500),
        ("2026-02-26T10:00Z", "300", 1_772_100_000_000),
        ("2026-02-26T10:00", "nonsense", 1_772_100_000_000),
    ],
)
def test_a_local_time_is_read_in_its_zone(text, zone, ms):
    assert local_ms(text, zone) == ms


@pytest.mark.parametrize("text", ["", "now", "0001-01-01T00:00", "9999-12-31T23:59", "2026-13-01T00:00", "1e9"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        local_ms(text, "60")


@given(st.fixed_dictionaries({name: st.text(max_size=40) for name in FILTERS}))
def test_whatever_is_typed_makes_a_search_that_the_store_can_carry_out(given):
    wanted, wrong = _wanted(dict(given), NOW_MS)
    assert wanted.code is None or 100 <= wanted.code <= 599
    for ms in (wanted.since_ms, wanted.until_ms):
        assert ms is None or abs(ms) < 1 << 62
    assert all(each.endswith(".") for each in wrong)


@pytest.mark.parametrize("code", ["020000000000000000000000", "099", "600", "2\u0660\u0660", "2e2", "-200"])
def test_a_code_is_three_digits(code):
    given = dict.fromkeys(FILTERS, "")
    assert _wanted({**given, "code": code}, NOW_MS)[1] != []
    assert _wanted({**given, "code": "404"}, NOW_MS)[0].code == 404
