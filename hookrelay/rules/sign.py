"""What proves that a request is from us: its head, signed by Standard Webhooks 1.0.0, and the check of one."""

import hashlib
import hmac
from binascii import b2a_base64
from collections.abc import Iterable

from hookrelay.model import Event, Webhook
from hookrelay.rules import payload
from hookrelay.rules.egress import DEFAULT_PORTS, target

_MASK = "***"


class Signer:
    """Signs with every live secret of a webhook."""

    def __init__(self, secrets: Iterable[bytes]) -> None:
        # the two hashes of RFC 2104 with the key's block in them already: 1.5 µs a KB, `hmac` itself takes 2.5
        self._keyed = tuple((_keyed(secret, 0x36), _keyed(secret, 0x5C)) for secret in secrets)

    def signature(self, id: str, timestamp: int, body: bytes) -> bytes:
        """The value of `webhook-signature`: `v1,BASE64` for each secret, space-delimited.

        `timestamp` is the moment of the attempt in unix seconds.
        """
        digests = self.digests(id, timestamp, body)
        if len(digests) == 1:
            return b"v1," + b2a_base64(digests[0], newline=False)
        return b" ".join([b"v1," + b2a_base64(digest, newline=False) for digest in digests])

    def digests(self, id: str, timestamp: int, body: bytes) -> list[bytes]:
        """The HMAC-SHA256 of `id.timestamp.body` by each secret."""
        message = b"%b.%d.%b" % (id.encode(), timestamp, body)
        digests = []
        for inner_keyed, outer_keyed in self._keyed:
            inner, outer = inner_keyed.copy(), outer_keyed.copy()
            inner.update(message)
            outer.update(inner.digest())
            digests.append(outer.digest())
        return digests


def _keyed(secret: bytes, pad: int) -> "hashlib._Hash":
    """SHA-256 of the key's block, padded as RFC 2104 §2 says; `pad` is 0x36 for the inner hash, 0x5C for the outer."""
    key = secret if len(secret) <= 64 else hashlib.sha256(secret).digest()
    return hashlib.sha256(bytes(byte ^ pad for byte in key.ljust(64, b"\0")))


def verify(
    secrets: Iterable[bytes],
    id: str,
    timestamp: int,
    body: bytes,
    signature_header: str,
    *,
    now_s: float,
    tolerance_s: float = 300,
) -> bool:
    """Whether one of the secrets made one of the signatures, not longer than `tolerance_s` ago or ahead.

    Takes the same time for every signature of a length, right or wrong.
    """
    given = [
        text.encode("utf-8", "replace")
        for version, _, text in (each.partition(",") for each in signature_header.split(" "))
        if version == "v1"
    ]
    is_ours = False
    for digest in Signer(secrets).digests(id, timestamp, body):
        right = b2a_base64(digest, newline=False)
        for each in given:
            is_ours |= hmac.compare_digest(right, each)
    return is_ours and abs(now_s - timestamp) <= tolerance_s


class Envelope:
    """What all requests to one webhook have in common, made once; the lines of the one event are filled in."""

    def __init__(self, webhook: Webhook, version: str) -> None:
        target, headers = _common(webhook, version)
        lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        self._top = "".join(f"{line}\r\n" for line in lines).encode("ascii")
        self._signer = Signer(webhook.secrets)

    def head(self, event: Event, body: bytes, attempt: int, now_s: int, trace: str | None) -> bytes:
        """Request line and headers, the blank line included, of attempt number `attempt` at `now_s` (unix seconds).

        `trace` is the attempt's `traceparent`; None where it has none.
        """
        id = event.id.encode()
        return (
            b"%bwebhook-id: %b\r\nidempotency-key: %b\r\nwebhook-timestamp: %d\r\nwebhook-signature: %b\r\n"
            b"webhook-attempt: %d\r\n%bcontent-length: %d\r\n\r\n"
        ) % (
            self._top,
            id,
            id,
            now_s,
            self._signer.signature(event.id, now_s, body),
            attempt,
            b"" if trace is None else b"traceparent: %b\r\n" % trace.encode(),
            len(body),
        )


def shown_headers(
    webhook: Webhook, version: str, event: Event, attempt: int, started_ms: int, trace: str | None
) -> dict[str, str]:
    """The headers of an attempt as the history shows them: its signature and the webhook's own values stay unsaid."""
    _, headers = _common(webhook, version)
    headers |= {name.lower(): _MASK for name, _ in webhook.headers}
    headers |= {
        "webhook-id": event.id,
        "idempotency-key": event.id,
        "webhook-timestamp": str(started_ms // 1000),
        "webhook-signature": _MASK,
        "webhook-attempt": str(attempt),
    }
    if trace is not None:
        headers["traceparent"] = trace
    headers["content-length"] = str(len(payload.body(event)))
    return headers


def _common(webhook: Webhook, version: str) -> tuple[str, dict[str, str]]:
    """Request target and constant headers; their names in lower case, `host` first."""
    where = target(webhook.url)
    host = f"[{where.host}]" if ":" in where.host else where.host
    return where.path, {
        "host": host if where.port == DEFAULT_PORTS[where.scheme] else f"{host}:{where.port}",
        "content-type": "application/json",
        "user-agent": f"hookrelay/{version}",
        "accept": "*/*",
        "accept-encoding": "identity",
        **{name.lower(): value for name, value in webhook.headers},
    }
