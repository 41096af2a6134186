import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.rules.payload import parse
from hookrelay.rules.trace import Trace, Tracks, is_within

ID, APP = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACKS = Tracks(b"salt")


@pytest.mark.parametrize(
    ("flags", "ours"),
    [("01", 1), ("03", 3), ("ff", 3), ("05", 1), ("00", None), ("02", None), ("fe", None)],
)
def test_the_apps_decision_is_obeyed_and_of_its_flags_those_that_we_know_are_passed_on(flags: str, ours: int | None):
    said = f"00-{ID}-{APP}-{flags}"
    assert TRACKS.is_recorded("evt_1", said) == (ours is not None)
    header = TRACKS.header("evt_1", said, "wh_1", 1, 1000)
    if ours is None:
        assert header == said
    else:
        assert TRACKS.trace("evt_1", said) == Trace(ID, APP, ours)
        assert header == f"00-{ID}-{TRACKS.attempt('evt_1', 'wh_1', 1, 1000)}-{ours:02x}"


@pytest.mark.parametrize("traceparent", [None, f"00-{ID}-{APP}-01"])
def test_what_receivers_get_is_what_submitters_may_send(traceparent: str | None):
    header = TRACKS.header("evt_1", traceparent, "wh_1", 1, 1000)
    assert parse(f'{{"type":"a","data":1,"traceparent":"{header}"}}'.encode()).traceparent == header


def test_an_event_without_a_trace_begins_one_that_is_found_again():
    trace = TRACKS.trace("evt_1", None)
    assert re.fullmatch("[0-9a-f]{32}", trace.id)
    assert (trace.parent, trace.flags) == (None, 3)
    assert Tracks(b"salt").trace("evt_1", None) == trace
    for other in (Tracks(b"other").trace("evt_1", None), TRACKS.trace("evt_2", None)):
        assert other.id != trace.id


def test_every_span_has_an_id_of_its_own():
    ids = {
        TRACKS.acceptance("evt_1"),
        TRACKS.acceptance("evt_2"),
        TRACKS.attempt("evt_1", "wh_1", 1, 1000),
        TRACKS.attempt("evt_1", "wh_1", 2, 1000),
        TRACKS.attempt("evt_1", "wh_1", 1, 1001),  # the same number after a power cut
        TRACKS.attempt("evt_1", "wh_2", 1, 1000),
        TRACKS.attempt("evt_2", "wh_1", 1, 1000),
    }
    assert len(ids) == 7
    assert all(re.fullmatch("[0-9a-f]{16}", id) for id in ids)


def test_where_no_traces_are_begun_there_is_no_header_and_the_apps_are_gone_on_with():
    none = Tracks(b"salt", 0.0)
    assert not none.is_recorded("evt_1", None)
    assert none.header("evt_1", None, "wh_1", 1, 1000) is None
    assert none.is_recorded("evt_1", f"00-{ID}-{APP}-01")


def test_a_share_of_new_traces_is_about_that_share():
    some = Tracks(b"salt", 0.25)
    begun = sum(some.is_recorded(f"evt_{number}", None) for number in range(4000))
    assert 850 < begun < 1150


@given(st.integers(1, 2**128 - 1), st.floats(0, 1))
def test_whoever_samples_by_the_trace_id_comes_to_the_same_decision(number: int, ratio: float):
    from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

    decided = TraceIdRatioBased(ratio).should_sample(None, number, "name").decision
    assert is_within(f"{number:032x}", ratio) == (decided == Decision.RECORD_AND_SAMPLE)
