"""What a tenant is told of an attempt: no address that is not public, no rule, no setting, no remedy of operators'."""

import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.model import AttemptError
from hookrelay.rules.egress import Policy, judge_address, vet
from hookrelay.rules.told import address_for_tenants, detail_for_tenants

SETTINGS = ("egress.", "operator", "built-in", "proxy", "RFC")


@pytest.mark.parametrize(
    ("code", "detail"),
    [
        ("egress_blocked", vet("db.corp.example", 443, ["10.0.0.5"], Policy()).refusal),
        ("egress_blocked", "127.0.0.1:443 is an address of this host itself: only `egress.allow` can open it"),
        ("egress_blocked", "the connection led to another address than [fd00::7]:443, the one vetted"),
        ("connect_timeout", "10.0.0.5:8080 did not answer within 10 s"),
        ("connect_timeout", "the proxy had no connection to [fd00::1]:443 in 2 s"),
        ("connect_refused", "nothing listens at that address and port, says the proxy"),
        ("connect_error", "the proxy could not connect to the receiver (502)"),
        ("local_fault", "the proxy cannot be reached: Connection refused"),
        ("local_fault", "the proxy refuses the user name and password of `egress.proxy`, or none"),
        ("local_fault", "/etc/hookrelay/client.pem: Permission denied"),
        ("proxy_refused", "the proxy refuses connections to that address and port (403)"),
        ("tls_error", "the certificate was refused: it is not valid for '10.1.2.3'"),
        ("reset", "10.0.0.5: reset. [fd00::7]:443, ::ffff:192.168.0.1, 169.254.169.254"),
    ],
)
def test_details_for_tenants_name_nothing_that_is_not_public(code, detail):
    said = detail_for_tenants(code, detail)
    assert said
    assert not re.search(r"10\\.|127\\.|192\\.168|169\\.254|fd00|/etc|\\b502\\b", said)
    assert not [word for word in SETTINGS if word in said]


@pytest.mark.parametrize(
    ("code", "detail"),
    [
        ("http_status", "500 Internal Server Error"),
        ("dns_error", "shop.example does not exist, or has no address"),
        ("tls_error", "the certificate was refused: certificate has expired"),
        ("connect_error", "No route to host"),
        (
            "timeout",
            "no answer within the attempt's time, 8.8.8.8:443 or [2a00:1450::1]:443 at 12:30, dead::beef is none",
        ),
        ("protocol_error", "the status line is not HTTP/1.1's: 'SSH-2.0'"),
        ("reset", ""),
    ],
)
def test_what_helps_the_receivers_developer_is_told_as_it_is(code, detail):
    assert detail_for_tenants(code, detail).replace("an address that is not public", "dead::beef") == detail


@pytest.mark.parametrize(
    ("place", "url", "is_told"),
    [
        (None, "https://db.example/", True),
        ("8.8.8.8:443", "https://db.example/", True),
        ("8.8.8.8:443", None, True),
        ("[2a00:1450::1]:443", "https://db.example/", True),
        ("10.0.0.5:443", "https://db.example/", False),
        ("10.0.0.5:443", "https://10.0.0.6/", False),
        ("10.0.0.5:443", "https://10.0.0.5/", True),  # whoever wrote the URL knows
        ("10.0.0.5:443", None, False),
        ("[fd00::1]:443", "https://[fd00::1]/", True),
        ("[fd00::1]:443", "https://db.example/", False),
        ("127.0.0.1:8080", "http://localhost:8080/", False),
        ("[::1]:8080", "http://localhost:8080/", False),
    ],
)
def test_where_an_attempt_went_is_told_where_that_is_public_or_stands_in_the_url(place, url, is_told):
    assert address_for_tenants(place, url) == (place if is_told else None)


@given(st.sampled_from(get_args(AttemptError)), st.ip_addresses(), st.text(max_size=20), st.text(max_size=20))
def test_no_address_that_is_not_public_is_in_any_detail(code, ip, before, after):
    if judge_address(str(ip), 443, Policy()).is_allowed or str(ip) in f"{before}{after}":
        return
    place = f"[{ip}]:443" if ip.version == 6 else f"{ip}:443"
    for text in (str(ip), f"{ip}.", f"{ip}:"):
        assert str(ip) not in detail_for_tenants(code, f"{before} {text} {after}").split()
    assert address_for_tenants(place, "https://db.example/") is None
    assert place not in detail_for_tenants(code, f"{before} {place} {after}")
