"""Plain content goes to the sink in the task that brings it; everything else to the reader's task, in order."""

import gc
import weakref

import pytest
import trio

from actors.api.response import Delta, Done, ResponseEvent, Start
from actors.protocol.delivery import TextDelta
from actors.request.response_stream import EventSink
from tests.actors.fakes import Answer, says, stage
from tests.actors.upstream.network import says as upstream_says
from tests.actors.upstream.test_upstream_actor import CHAT
from tests.actors.upstream.test_upstream_actor import stage as upstream_stage

TEXT = "the quick brown fox"


class Sink:
    """Notes what it was given, and by which task."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.ready = True
        self.sends_all = True
        self.emitted: list[ResponseEvent] = []
        self.tasks: set[str] = set()
        self.flushed = 0

    def emit(self, events: list[ResponseEvent]) -> bool:
        self.tasks.add(trio.lowlevel.current_task().name)
        self.emitted += events
        self.answer.events += events
        return self.sends_all

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()
        self.flushed += 1

    def made(self) -> EventSink:
        return EventSink(lambda: self.ready, self.emit, self.flush)


async def read(response, sink: Sink) -> Answer:
    response.emit_through(sink.made())
    try:
        while events := await response.next_events():
            sink.answer.events += events
    finally:
        response.close()
    return sink.answer


async def test_an_engines_content(autojump_clock):
    async with stage({"small": says(TEXT)}) as service:
        sink = Sink(Answer())
        answer = await read(await service.open(), sink)
        assert answer.text() == TEXT
        # The beginning and the end are the reader's; what is between them is not.
        assert isinstance(answer.events[0], Start)
        assert isinstance(answer.events[-1], Done)
        assert len(sink.emitted) == 3
        assert all(isinstance(event, Delta) and event.finish_reason is None for event in sink.emitted)
        me = trio.lowlevel.current_task().name
        assert me not in sink.tasks
        assert answer.end.usage.completion_tokens == len(answer.tokens())
        await service.assert_clean()


async def test_an_upstreams_content(autojump_clock):
    async with upstream_stage(upstream_says("a", "b", "c", "d", pause_s=0.1)) as (service, _):
        sink = Sink(Answer())
        answer = await read(await service.open("cloud-only", prompts=CHAT), sink)
        assert (answer.text(), len(sink.emitted) > 1) == ("abcd", True)


async def test_content_that_comes_quickly_is_the_readers(autojump_clock):
    async with upstream_stage(upstream_says(*"abcdefgh", pause_s=0.001)) as (service, _):
        sink = Sink(Answer())
        answer = await read(await service.open("cloud-only", prompts=CHAT), sink)
        assert (answer.text(), sink.emitted) == ("abcdefgh", [])


async def test_a_client_that_does_not_read_is_waited_for_by_the_reader(autojump_clock):
    async with stage({"small": says(TEXT)}) as service:
        sink = Sink(Answer())
        sink.ready = False
        answer = await read(await service.open(), sink)
        assert (answer.text(), sink.emitted) == (TEXT, [])


async def test_what_was_sent_in_part_is_flushed_by_the_reader(autojump_clock):
    async with stage({"small": says(TEXT)}) as service:
        sink = Sink(Answer())
        sink.sends_all = False
        answer = await read(await service.open(), sink)
        assert answer.text() == TEXT
        assert sink.flushed == len(sink.emitted) == 3


@pytest.mark.parametrize("fails", ["emit", "flush"])
async def test_what_came_with_the_last_wake_is_accounted_for(autojump_clock, fails):
    """Two outputs of one moment: the first goes out and wakes the reader, the second waits when its sending fails."""
    async with upstream_stage(upstream_says("a", "b", pause_s=0.1)) as (service, _):
        answer = Answer()
        sink = Sink(answer)
        response = await service.open("cloud-only", prompts=CHAT)

        def emit(events: list[ResponseEvent]) -> bool:
            sink.ready = False
            job = response._attempt.job
            assert response._delivery.put(job.job_id, TextDelta(job.sequences[0].sequence_id, "x", 5))
            if fails == "emit":
                raise ZeroDivisionError
            return False

        async def flush() -> None:
            await trio.lowlevel.checkpoint()
            raise ZeroDivisionError

        sink.emit = emit  # type: ignore[method-assign]
        sink.flush = flush  # type: ignore[method-assign]
        with pytest.raises(ZeroDivisionError):
            await read(response, sink)
        # Two tokens of the upstream, and the five that came meanwhile.
        await service.assert_clean()
        row = service.row("r1")
        assert row["completion_tokens"] + row["discarded_tokens"] == 7


async def test_a_failing_sink_fails_its_own_answer_only(autojump_clock):
    async with stage({"small": says(TEXT)}) as service:
        sink = Sink(Answer())

        def fails(_: list[ResponseEvent]) -> bool:
            raise ZeroDivisionError

        sink.emit = fails  # type: ignore[method-assign]
        with pytest.raises(ZeroDivisionError):
            await read(await service.open(), sink)
        assert (await service.ask()).text() == TEXT
        assert set(service.restarts.values()) == {0}
        await service.assert_clean()


async def test_an_escalation_while_the_reader_waits(autojump_clock):
    async with stage({"small": says("aaaaaaaa", {5: 0.1}), "large": says(TEXT)}) as service:
        sink = Sink(Answer())
        answer = await read(await service.open("both"), sink)
        assert answer.end.served.rung == "large"
        assert answer.end.usage.completion_tokens == len(answer.tokens())
        await service.assert_clean()


@pytest.mark.parametrize("late", [False, True])
async def test_an_answer_that_is_over_is_not_left_to_the_garbage_collector(autojump_clock, late):
    """`late`: the sink comes after the end, as with an answer that was complete at once."""
    async with stage({"small": says(TEXT)}) as service:
        gc.disable()
        try:
            response = await service.open()
            if late:
                while await response.next_events():
                    pass
            await read(response, Sink(Answer()))
            gone = weakref.ref(response)
            del response
            await trio.testing.wait_all_tasks_blocked()
            assert gone() is None
        finally:
            gc.enable()
