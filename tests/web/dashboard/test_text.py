from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.web.dashboard.text import clip, compact, count, milliseconds, percent, size, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\nb\tc", "a\nb\tc"),
        ("\u202eevil", "\\u202eevil"),
        ("\x1b[31m", "\\u001b[31m"),
        ("a\x00b\x9b", "a\\u0000b\\u009b"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("line\u2028end\r", "line\\u2028end\\u000d"),
        ("\ud800", "\\ud800"),
        ("tag\U000e0041", "tag\\udb40\\udc41"),
        ("zażółć 日本 😀", "zażółć 日本 😀"),
    ],
)
def test_what_cannot_be_seen_is_written_out(text, shown):
    assert visible(text) == shown


@given(st.text(max_size=300), st.integers(0, 400))
def test_a_clipped_text_fits_and_is_the_beginning(text, budget):
    html, is_whole = clip(text, budget)
    assert len(html.encode()) <= budget
    assert "<" not in html
    assert visible(text).startswith(unescape(html)) or visible(text[:budget]).startswith(unescape(html))
    assert not is_whole or unescape(html) == visible(text)


def test_a_long_text_of_quotation_marks_is_clipped_soon():
    html, is_whole = clip('"' * 1_000_000, 10_000)
    assert 9_000 < len(html) <= 10_000
    assert not is_whole


@pytest.mark.parametrize(
    ("share", "text"),
    [(None, "\u2013"), (1, "100 %"), (0, "0 %"), (0.99999, "99.9 %"), (0.00001, "0.1 %"), (0.5, "50.0 %")],
)
def test_a_share_is_never_rounded_to_all_or_none(share, text):
    assert percent(share) == text


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, "\u2013"),
        (0.2, "<1 ms"),
        (12.4, "12 ms"),
        (1400, "1.4 s"),
        (90_000, "2 min"),
        (10_000_000, "3 h"),
        (999.7, "1.0 s"),
        (59_990, "1 min"),
    ],
)
def test_a_length_of_time_is_written_as_people_read_it(ms, text):
    assert milliseconds(ms) == text


def test_numbers_and_sizes_are_written_as_people_read_them():
    assert count(1234567) == "1\u202f234\u202f567"
    assert [compact(each) for each in (0, 2500, 10_000, 250_000, 5e5, 1e6, 2.5e6, 2e7)] == [
        "0",
        "2\u202f500",
        "10 k",
        "250 k",
        "500 k",
        "1 M",
        "2.5 M",
        "20 M",
    ]
    assert [size(0), size(1023), size(1536), size(5 << 30), size(3 << 40)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 GiB",
        "3.0 TiB",
    ]
