import pytest

from hookrelay.rules.otlp import TRIES, Answer, Verdict, judge, url

NOW = 1_800_000_000.0


def busy(status: int, retry_after: str = "") -> Answer:
    asked = f"\r\nRetry-After: {retry_after}" if retry_after else ""
    return Answer(status, head=f"HTTP/1.1 {status} Told{asked}".encode())


@pytest.mark.parametrize(
    ("endpoint", "whole"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
        ("https://collector.example/otlp", "https://collector.example/otlp/v1/traces"),
        ("https://collector.example/otlp/v1/traces", "https://collector.example/otlp/v1/traces"),
        ("https://collector.example/v1/traces/", "https://collector.example/v1/traces"),
    ],
)
def test_the_path_of_traces_is_added_where_it_is_missing(endpoint: str, whole: str):
    assert url(endpoint) == whole


@pytest.mark.parametrize(
    ("answer", "tries", "verdict"),
    [
        (Answer(200), 1, Verdict("taken")),
        (Answer(202), 9, Verdict("taken")),
        (busy(503), 1, Verdict("again", 0.75, "the collector answered 503")),
        (busy(429), 3, Verdict("again", 3.0, "the collector answered 429")),
        (busy(504), 7, Verdict("again", 24.0, "the collector answered 504")),
        (busy(502), TRIES, Verdict("dropped", 0.0, f"the collector answered 502, {TRIES} times")),
        (Answer(0, "Connection refused"), 1, Verdict("again", 0.75, "Connection refused")),
        (Answer(0, "no answer"), TRIES, Verdict("dropped", 0.0, f"no answer, {TRIES} times")),
        (Answer(500), 1, Verdict("dropped", 0.0, "the collector answered 500")),
        (Answer(400), 1, Verdict("dropped", 0.0, "the collector answered 400")),
        (Answer(302), 1, Verdict("dropped", 0.0, "the collector answered 302")),
        (busy(503, "7"), 1, Verdict("again", 7.0, "the collector answered 503")),
        (busy(429, "Fri, 15 Jan 2027 08:00:20 GMT"), 1, Verdict("again", 20.0, "the collector answered 429")),
        (busy(503, "86400"), 1, Verdict("again", 300.0, "the collector answered 503")),
        (busy(503, "soon"), 1, Verdict("again", 0.75, "the collector answered 503")),
        (busy(400, "7"), 1, Verdict("dropped", 0.0, "the collector answered 400")),
    ],
)
def test_what_passes_is_tried_again_and_what_does_not_is_dropped(answer: Answer, tries: int, verdict: Verdict):
    assert judge(answer, tries, NOW, 0.5) == verdict
