"""What a collector's answer means for the spans that it was sent (OTLP 1.x, "OTLP/HTTP Response")."""

from typing import Literal

from msgspec import Struct

from hookrelay.rules.retry import retry_after_s

PATH = "/v1/traces"
TRIES = 8
"""Some two minutes: what no collector takes by then makes room for newer spans."""
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 32.0
LONGEST_ASKED_S = 300.0
"""What a collector can ask for at most."""
_PASSING = frozenset({429, 502, 503, 504})


class Answer(Struct, frozen=True):
    """What came of one request."""

    status: int
    """0 where nobody answered."""
    detail: str = ""
    """Why nobody did."""
    head: bytes = b""
    """Status line and fields."""
    body: bytes = b""


class Verdict(Struct, frozen=True):
    """What follows."""

    fate: Literal["taken", "again", "dropped"]
    wait_s: float = 0.0
    """Until it is sent again."""
    why: str = ""
    """What an operator is told."""


TAKEN = Verdict("taken")


def url(endpoint: str) -> str:
    """Where spans go: the endpoint with the path of the signal, unless it ends in that already."""
    base = endpoint.rstrip("/")
    return base if base.endswith(PATH) else base + PATH


def judge(answer: Answer, tries: int, now_s: float, roll: float) -> Verdict:
    """What becomes of spans that were sent `tries` times. `now_s` in unix seconds, `roll` uniform in [0, 1)."""
    if 200 <= answer.status < 300:
        return TAKEN
    why = f"the collector answered {answer.status}" if answer.status else answer.detail
    if answer.status and answer.status not in _PASSING:
        return Verdict("dropped", why=why)
    if tries >= TRIES:
        return Verdict("dropped", why=f"{why}, {tries} times")
    wait_s = min(FIRST_WAIT_S * 2 ** (tries - 1), LONGEST_WAIT_S) * (0.5 + roll / 2)
    asked_s = retry_after_s(answer.head, now_s)
    if asked_s is not None:
        wait_s = min(asked_s, LONGEST_ASKED_S)
    return Verdict("again", wait_s, why)
