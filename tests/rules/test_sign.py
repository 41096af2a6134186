import base64
import json
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from hookrelay.model import Event, Webhook
from hookrelay.rules.payload import body
from hookrelay.rules.sign import Envelope, Signer, shown_headers, verify

KEY = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
VECTOR = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
VECTOR_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
NODE = Path(__file__).parent.parent / "node"


def event(**fields: object) -> Event:
    given = {"id": "evt_01", "type": "a.b", "tenant": "acme", "timestamp": "2026-02-26T10:00:00Z", "data": b'{"n":1}'}
    return Event(**{"seq": 1, "created_ms": 1} | given | fields)


def webhook(url: str = "https://example.com/hooks", **fields: object) -> Webhook:
    given = {"id": "wh_1", "events": ("*",), "retry": (), "delays": (0.0,), "secrets": (KEY,)}
    return Webhook(**given | {"url": url} | fields)


def parts(head: bytes) -> tuple[str, list[tuple[str, str]]]:
    text = head.decode("ascii")
    assert text.endswith("\r\n\r\n")
    first, *lines = text[:-4].split("\r\n")
    return first, [(name, value) for name, _, value in (line.partition(": ") for line in lines)]


# --- signatures -------------------------------------------------------------------------------------------------


def test_the_published_vector_is_signed_as_published():
    assert Signer((KEY,)).signature(*VECTOR).decode() == VECTOR_SIGNATURE


def test_the_published_vector_verifies():
    assert verify((KEY,), *VECTOR, VECTOR_SIGNATURE, now_s=VECTOR[1])


def test_each_live_secret_signs_in_their_order():
    both = Signer((KEY, b"other")).signature(*VECTOR)
    assert both == Signer((KEY,)).signature(*VECTOR) + b" " + Signer((b"other",)).signature(*VECTOR)


@given(st.lists(st.binary(min_size=1, max_size=100), min_size=1, max_size=3), st.text())
def test_the_python_reference_verifies_what_each_secret_signed(secrets: list[bytes], text: str):
    now = int(time.time())
    signature = Signer(tuple(secrets)).signature("evt_1", now, text.encode()).decode()
    headers = {"webhook-id": "evt_1", "webhook-timestamp": str(now), "webhook-signature": signature}
    for secret in secrets:
        Verifier(secret).verify(text, headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Verifier(b"foreign" * 20).verify(text, headers, json_parse=False)


def test_the_node_reference_verifies_what_each_secret_signed():
    if not (NODE / "node_modules" / "standardwebhooks").is_dir():
        pytest.fail("tests/node/node_modules is missing: run `make test`, or `npm ci --ignore-scripts` in tests/node")
    now = int(time.time())
    secrets = (KEY, bytes(range(64)), b"\xff" * 24)
    bodies = [b"{}", '{"a":"é \U0001f600"}'.encode(), body(event()), body(event(data=b'"' + b"x" * 100_000 + b'"'))]
    cases = []
    for text in bodies:
        _, headers = parts(Envelope(webhook(secrets=secrets), "1").head(event(), text, 1, now, None))
        encoded = base64.b64encode(text).decode()
        for secret in (*secrets, b"foreign"):
            shared = "whsec_" + base64.b64encode(secret).decode()
            cases.append({"secret": shared, "headers": dict(headers), "body": encoded})
    answer = subprocess.run(
        ["node", "verify.mjs"],
        cwd=NODE,
        input="".join(f"{json.dumps(case)}\n" for case in cases),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert answer.stderr == ""
    assert answer.stdout.splitlines() == ["good", "good", "good", "bad: No matching signature found"] * len(bodies)


@given(st.binary(min_size=1), st.binary(), st.integers(0, 1 << 40))
def test_what_is_signed_verifies(secret: bytes, text: bytes, timestamp: int):
    signature = Signer((secret,)).signature("evt_1", timestamp, text).decode()
    for secrets in ((secret,), (b"new", secret), (secret, b"old")):
        for header in (signature, f"v1,AAAA v1a,x {signature}", f"{signature} v1,AAAA"):
            assert verify(secrets, "evt_1", timestamp, text, header, now_s=timestamp)


@pytest.mark.parametrize(
    ("change", "value"),
    [
        (0, (b"another key",)),
        (0, ()),
        (1, "msg_other"),
        (2, VECTOR[1] + 1),
        (3, b'{"test": 2432232315}'),
        (4, ""),
        (4, "v1,"),
        (4, "v1"),
        (4, VECTOR_SIGNATURE.replace("v1,", "v2,")),
        (4, VECTOR_SIGNATURE[:-1]),
        (4, VECTOR_SIGNATURE.lower()),
        (4, VECTOR_SIGNATURE.replace(",", ", ")),
        (4, "v1,é\udcff"),
    ],
)
def test_anything_changed_does_not_verify(change: int, value: object):
    arguments: list[object] = [(KEY,), *VECTOR, VECTOR_SIGNATURE]
    arguments[change] = value
    assert verify(*arguments, now_s=VECTOR[1]) is False


@pytest.mark.parametrize(
    ("late_s", "verdict"), [(0, True), (300, True), (300.5, False), (-300, True), (-301, False), (1e12, False)]
)
def test_a_signature_is_good_for_the_tolerance_only(late_s: float, verdict: bool):
    assert verify((KEY,), *VECTOR, VECTOR_SIGNATURE, now_s=VECTOR[1] + late_s) is verdict
    assert verify((KEY,), *VECTOR, VECTOR_SIGNATURE, now_s=VECTOR[1] + late_s, tolerance_s=1e13)


# --- heads ------------------------------------------------------------------------------------------------------


def test_a_head_has_the_contracts_headers_and_ends_in_a_blank_line():
    text = body(event())
    head = Envelope(webhook(headers=(("X-Source", "hotel"),)), "9.8").head(event(), text, 3, 1614265330, None)
    assert parts(head) == (
        "POST /hooks HTTP/1.1",
        [
            ("host", "example.com"),
            ("content-type", "application/json"),
            ("user-agent", "hookrelay/9.8"),
            ("accept", "*/*"),
            ("accept-encoding", "identity"),
            ("x-source", "hotel"),
            ("webhook-id", "evt_01"),
            ("idempotency-key", "evt_01"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", Signer((KEY,)).signature("evt_01", 1614265330, text).decode()),
            ("webhook-attempt", "3"),
            ("content-length", str(len(text))),
        ],
    )


def test_a_webhook_s_own_accept_stands_in_the_place_of_ours():
    head = Envelope(webhook(headers=(("Accept", "application/json"),)), "9.8").head(event(), b"{}", 1, 1, None)
    assert [value for name, value in parts(head)[1] if name.lower() == "accept"] == ["application/json"]


def test_a_traceparent_is_passed_on():
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    _, headers = parts(Envelope(webhook(), "1").head(event(), b"{}", 1, 1, trace))
    assert dict(headers)["traceparent"] == trace


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("https://example.com", "example.com", "/"),
        ("https://example.com/", "example.com", "/"),
        ("https://example.com:443/a", "example.com", "/a"),
        ("http://example.com:80/a", "example.com", "/a"),
        ("https://example.com:80/a", "example.com:80", "/a"),
        ("http://example.com:443/a", "example.com:443", "/a"),
        ("http://127.0.0.1:8080/a?b=/c?d", "127.0.0.1:8080", "/a?b=/c?d"),
        ("https://Example.COM/A/%2F//", "example.com", "/A/%2F//"),
        ("https://example.com?q=1", "example.com", "/?q=1"),
        ("https://example.com:8443?q", "example.com:8443", "/?q"),
        ("https://EXAMPLE.com:8443/A", "example.com:8443", "/A"),
        ("https://[2001:DB8::1]/x", "[2001:db8::1]", "/x"),
        ("https://[2001:db8::1]:8443/x", "[2001:db8::1]:8443", "/x"),
    ],
)
def test_host_and_target_come_from_the_url(url: str, host: str, target: str):
    first, headers = parts(Envelope(webhook(url), "1").head(event(), b"{}", 1, 1, None))
    assert first == f"POST {target} HTTP/1.1"
    assert headers[0] == ("host", host)


@pytest.mark.parametrize("url", ["ftp://x/", "//x/", "https:///x", "https://a@b/", "https://x/\r\nevil: 1"])
def test_a_url_that_no_check_let_through_makes_no_request(url: str):
    with pytest.raises(ValueError, match="without scheme, host and path"):
        Envelope(webhook(url), "1")


# --- history ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trace", [None, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"])
def test_the_history_shows_the_headers_that_were_sent_but_no_secret_ones(trace: str | None):
    hook = webhook("https://example.com:8443/x?token=1", headers=(("Authorization", "Bearer abc"), ("x-a", "b")))
    sent = event(traceparent=trace)
    _, headers = parts(Envelope(hook, "9.8").head(sent, body(sent), 2, 1614265330, trace))
    masked = {"webhook-signature", "authorization", "x-a"}
    assert list(shown_headers(hook, "9.8", sent, 2, 1614265330999, trace).items()) == [
        (name, "***" if name in masked else value) for name, value in headers
    ]
