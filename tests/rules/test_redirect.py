"""What is told of redirects, and where they say that requests belong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.rules.redirect import MOVED, REDIRECTS, SHOWN_MOST, answered, for_logs, location, moved_to

URL = "https://shop.example/hooks/t0ken"


def head(code: int, *fields: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {code} X", *fields, "", ""]).encode("latin-1")


@pytest.mark.parametrize("code", sorted(REDIRECTS))
def test_a_redirect_is_told_with_where_it_pointed_and_what_to_do(code: int):
    said = answered(code, head(code, "Server: x", "Location: https://new.example/in?x=1"))
    assert said == (
        f"the receiver answered {code} and pointed to https://new.example/in?x=1: redirects are not followed; "
        "if events belong there, set the webhook's url to it"
    )
    said = answered(code, head(code))
    assert said.startswith(f"the receiver answered {code}, a redirect: these are not followed")


@pytest.mark.parametrize("code", [300, 304, 400, 404, 500])
def test_another_answer_is_told_by_its_number(code: int):
    assert answered(code, head(code, "Location: /x")) == f"the receiver answered {code}"


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("https://new.example/hooks/t0ken?a=b", "https://new.example/…"),
        ("/hooks/t0ken/", "another path"),
        ("https://[::1]/t0ken", "another path"),
        ("t0ken", "another path"),
    ],
)
def test_the_log_is_not_told_what_may_be_a_token(to: str, said: str):
    told = for_logs(answered(301, head(301, f"Location: {to}")))
    assert "t0ken" not in told
    assert told.startswith(f"the receiver answered 301 and pointed to {said}: redirects are not followed")
    assert for_logs("the receiver answered 500") == "the receiver answered 500"


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("Location: https://a.example/", "https://a.example/"),
        ("LOCATION:\t/x  ", "/x"),
        ("location:", None),
        ("X-Location: /x", None),
        ("content-location: /x", None),
    ],
)
def test_the_field_is_found_however_it_is_written(field: str, found: str | None):
    assert location(head(301, field)) == found
    assert location(head(301, field).replace(b"\r\n", b"\n")) == found


@pytest.mark.parametrize(
    ("to", "whole"),
    [
        ("https://new.example/in", "https://new.example/in"),
        ("/hooks/t0ken/", "https://shop.example/hooks/t0ken/"),
        ("../in", "https://shop.example/in"),
        ("//new.example/x#part", "https://new.example/x"),
        (URL, None),
        (URL + "#x", None),
        ("javascript:alert(1)", None),
        ("mailto:a@b.example", None),
        ("http://[", None),
    ],
)
def test_a_moved_address_is_whole_and_another_one(to: str, whole: str | None):
    for code in MOVED:
        assert moved_to(URL, code, head(code, f"Location: {to}")) == whole
    for code in (303, 200, 404, None):
        assert moved_to(URL, code, head(301, f"Location: {to}")) is None
    assert moved_to(URL, 301, None) is None


@given(st.binary(max_size=300))
def test_no_answer_crashes_it_and_what_is_told_is_one_short_line(said: bytes):
    head = b"HTTP/1.1 301 X\r\nLocation: " + said + b"\r\n\r\n"
    told = answered(301, head)
    assert told.isascii() or "…" in told
    assert told.replace("…", "").isprintable()
    assert len(told) < SHOWN_MOST + 200
    assert for_logs(told).isprintable()
    moved_to(URL, 301, head)
