"""The way of spans to their collector, on the mock clock: when they are sent, sent again, and given up."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from builders import START_MS, event, outcome, wall, webhook
from doubles import listening_log
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from hookrelay.rules.otlp import TRIES, Answer
from hookrelay.rules.trace import Tracks
from hookrelay.telemetry.metrics import Metrics
from hookrelay.telemetry.otlp import Encoder, refused
from hookrelay.telemetry.traces import ROOM, Tracer
from hookrelay.tracing import BATCH, DELAY_S, Tracing, rest_s

OK = Answer(200)
BUSY = Answer(503, head=b"HTTP/1.1 503 Busy")


class Collector:
    """Answers in turn, the last for ever, each after a moment; `None` never comes."""

    def __init__(self, *answers: Answer | None) -> None:
        self.answers = deque(answers)
        self.times: list[float] = []
        self.sizes: list[int] = []
        self.is_closed = False

    async def post(self, body: bytes, encoding: str | None) -> Answer:
        self.times.append(trio.current_time())
        (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
        self.sizes.append(len(resource.scope_spans[0].spans))
        answer = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        await trio.sleep(0.01 if answer is not None else trio.current_time() + 1e6)
        assert answer is not None
        return answer

    async def close(self) -> None:
        self.is_closed = True


class Rig:
    def __init__(self, *answers: Answer | None) -> None:
        self.collector = Collector(*(answers or (OK,)))
        self.metrics = Metrics()
        log, self.told = listening_log()
        self.tracer = Tracer(Tracks(b"salt"), self.metrics.spans, wall)
        self.tracing = Tracing(
            self.tracer, Encoder({"service.name": "test"}), self.collector, refused, self.metrics, log, wall,
            is_compressed=False,
        )  # fmt: skip

    def make(self, count: int) -> None:
        for number in range(count):
            self.tracer.accepted(event(number + 1, created_ms=START_MS))

    @property
    def counts(self) -> tuple[int, int]:
        return self.metrics.spans["exported"], self.metrics.spans["dropped"]

    def said(self, name: str, field: str = "detail") -> list[object]:
        return [line[field] for line in self.told if line["event"] == name]


@asynccontextmanager
async def running(*answers: Answer | None) -> AsyncIterator[Rig]:
    rig = Rig(*answers)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.tracing.run)
        yield rig
        nursery.cancel_scope.cancel()


async def test_spans_wait_for_others_but_not_long(autojump_clock):
    async with running() as rig:
        await trio.sleep(5)
        rig.make(3)
        await trio.sleep(DELAY_S + 1)
        assert (rig.collector.times, rig.collector.sizes, rig.counts) == ([5 + DELAY_S], [3], (3, 0))


async def test_a_whole_batch_does_not_wait(autojump_clock):
    async with running() as rig:
        rig.make(2 * BATCH + 1)
        await trio.sleep(0.1)
        assert rig.collector.sizes == [BATCH, BATCH]
        await trio.sleep(DELAY_S)
        assert rig.counts == (2 * BATCH + 1, 0)


async def test_what_is_not_taken_is_sent_again_less_and_less_often_and_then_given_up(autojump_clock):
    async with running(*[BUSY] * TRIES, OK) as rig:
        rig.make(BATCH)
        await trio.sleep(300)
        waits = [later - earlier for earlier, later in zip(rig.collector.times, rig.collector.times[1:], strict=False)]
        assert len(waits) == TRIES - 1
        for wait_s, most_s in zip(waits, (1, 2, 4, 8, 16, 32, 32), strict=True):
            assert most_s / 2 <= wait_s <= most_s + 0.1
        assert rig.counts == (0, BATCH)
        rig.make(BATCH)
        await trio.sleep(1)
        assert rig.counts == (BATCH, BATCH)
        assert rig.said("spans_not_sent") == ["the collector answered 503"]
        assert rig.said("spans_sent_again", "dropped") == [BATCH]


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413, 500])
async def test_what_is_refused_is_dropped_at_once_and_told_once(autojump_clock, status):
    async with running(Answer(status)) as rig:
        rig.make(3 * BATCH)
        await trio.sleep(1)
        assert (len(rig.collector.times), rig.counts) == (3, (0, 3 * BATCH))
        assert rig.said("spans_not_sent") == [f"the collector answered {status}"]


async def test_what_a_collector_takes_in_part_is_not_sent_again(autojump_clock):
    partial = ExportTracePartialSuccess(rejected_spans=5, error_message="too old" * 100)
    async with running(
        Answer(200, body=ExportTraceServiceResponse(partial_success=partial).SerializeToString())
    ) as rig:
        rig.make(BATCH)
        await trio.sleep(60)
        assert (rig.collector.sizes, rig.counts) == ([BATCH], (BATCH - 5, 5))
        (said,) = rig.said("spans_not_sent")
        assert str(said).startswith("the collector did not want 5 spans: too old")
        assert len(str(said)) < 300


async def test_trouble_that_comes_and_goes_is_told_now_and_then(autojump_clock):
    async with running(*[Answer(400), OK] * 50, OK) as rig:
        for _ in range(40):
            rig.make(BATCH)
            await trio.sleep(10)
        assert rig.counts == (20 * BATCH, 20 * BATCH)
        assert len(rig.said("spans_not_sent")) == len(rig.said("spans_sent_again", "dropped")) == 2


async def test_an_answer_that_is_no_protobuf_counts_by_its_status(autojump_clock):
    async with running(Answer(200, body=b"{}")) as rig:
        rig.make(BATCH)
        await trio.sleep(1)
        assert rig.counts == (BATCH, 0)


async def test_while_the_collector_hangs_the_oldest_make_room(autojump_clock):
    async with running(None) as rig:
        rig.make(BATCH)
        await trio.sleep(1)
        rig.make(ROOM + 7)
        assert (len(rig.tracer), rig.counts) == (ROOM, (0, 7))
        assert rig.tracer.take(1)[0].attributes["hookrelay.event.id"] == event(8).id


async def test_at_the_end_all_is_sent_without_waiting_for_more(autojump_clock):
    async with running() as rig:
        rig.make(BATCH + 1)
        rig.make(2 * BATCH)
        await rig.tracing.finish(2)
        assert (trio.current_time() < 0.5, rig.counts, rig.collector.is_closed) == (True, (3 * BATCH + 1, 0), True)
        assert rig.told == []


async def test_at_the_end_what_waits_to_be_sent_again_is_sent_once_more_and_then_lost(autojump_clock):
    async with running(Answer(503, head=b"HTTP/1.1 503 Busy\r\nRetry-After: 60")) as rig:
        rig.make(BATCH + 2)
        await trio.sleep(1)
        await rig.tracing.finish(2)
        assert trio.current_time() < 1.5
        assert rig.collector.sizes == [BATCH, BATCH, 2]
        assert rig.said("spans_lost", "count") == [BATCH + 2]
        assert rig.counts == (0, BATCH + 2)


async def test_a_collector_that_hangs_is_waited_for_no_longer_than_told(autojump_clock):
    async with running(None) as rig:
        rig.make(BATCH + 2)
        await trio.sleep(1)
        await rig.tracing.finish(2)
        assert trio.current_time() == 3
        assert rig.said("spans_lost", "count") == [BATCH + 2]


async def test_nothing_is_said_at_an_end_with_nothing_to_send(autojump_clock):
    async with running() as rig:
        await trio.sleep(1)
        await rig.tracing.finish(2)
        assert (trio.current_time(), rig.collector.times, rig.told) == (1, [], [])


def test_on_a_busy_loop_most_of_the_time_is_left_to_others():
    assert rest_s(0.0004, 0.003) == pytest.approx(0.0024)
    assert rest_s(0.0004, 0.0001) == 0


async def test_the_spans_of_a_slice_and_of_the_next_are_in_one_request(autojump_clock):
    async with running() as rig:
        rig.make(20)
        rig.tracer.attempted(event(99), webhook(), "dlv_1", 1, outcome("timeout", detail="no answer \udcff"), "pending")
        await trio.sleep(DELAY_S + 1)
        assert rig.collector.sizes == [21]
