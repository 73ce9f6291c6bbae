"""Answers that go on without their client: read by several, dropped in time and bounded in memory."""

from contextlib import asynccontextmanager

import msgspec
import pytest
import trio

from actors.api.errors import IdempotencyKeyReused, NotFound, Refusal
from actors.api.response import Done, Failed
from actors.kept.kept_answer import KeptReader
from actors.kept.kept_answers import KeptAnswers
from tests.actors.configuration import STOPS
from tests.actors.fakes import Answer, Stage, says, stage
from tests.actors.prompt.test_output_constraints import ASKED, LEAD, LENGTH, call
from tests.actors.request.test_response_stream import fails_at
from tests.actors.service.test_rescue import FORCED

TEXT = "abcdefgh" * 4
TENANT = "anonymous"


@asynccontextmanager
async def kept_stage(*, keep_s=60.0, memory_bytes=1 << 27, step_s=0.1, script=None):
    async with (
        stage({"small": script or says(TEXT)}, settings=STOPS, step_s=step_s) as service,
        trio.open_nursery() as nursery,
    ):
        kept = KeptAnswers(service.service.open, keep_s=keep_s, memory_bytes=memory_bytes, wall=service.service.wall)
        nursery.start_soon(kept.run)
        await trio.testing.wait_all_tasks_blocked()
        yield service, kept
        nursery.cancel_scope.cancel()


def begin(service: Stage, kept: KeptAnswers, *, key="", digest=b"d", tenant=TENANT, **options) -> KeptReader | None:
    request = service.request(options.pop("model", "small"), **options)
    return kept.begin(request, tenant, endpoint="chat.completions", created=1, key=key, digest=digest)


async def read(reader: KeptReader, answer: Answer | None = None) -> Answer:
    answer = answer or Answer()
    try:
        await reader.answer.begun()
        while events := await reader.next_events():
            answer.events += events
    except Refusal as refusal:
        answer.refusal = refusal.with_traceback(None)
    finally:
        reader.close()
    return answer


async def test_it_is_read_as_it_comes_and_again(autojump_clock):
    async with kept_stage() as (service, kept):
        reader = begin(service, kept)
        first = await read(reader)
        assert first.text() == TEXT
        again = await read(kept.find(reader.answer.request.request_id, TENANT))
        assert again.events == first.events
        assert (kept.attached_total, len(service.rows())) == (1, 1)


async def test_it_goes_on_when_its_reader_leaves(autojump_clock):
    async with kept_stage() as (service, kept):
        reader = begin(service, kept)
        await reader.answer.begun()
        seen = await reader.next_events()
        reader.close()
        await trio.sleep(2)
        rest = await read(kept.find(reader.answer.request.request_id, TENANT))
        assert rest.events[: len(seen)] == seen
        assert rest.text() == TEXT
        await service.assert_clean()
        assert service.row(reader.answer.request.request_id)["outcome"] == "ok"


async def test_several_read_it_at_once_and_one_who_leaves_ends_nobodys(autojump_clock):
    async with kept_stage() as (service, kept), trio.open_nursery() as nursery:
        reader = begin(service, kept, key="k")
        others = [begin(service, kept, key="k") for _ in range(3)]
        answers = [Answer() for _ in others]
        for other, answer in zip(others, answers, strict=True):
            nursery.start_soon(read, other, answer)
        await reader.answer.begun()
        await reader.next_events()
        reader.close()
        await trio.sleep(5)
        assert [answer.text() for answer in answers] == [TEXT] * 3
        assert len(service.rows()) == 1


async def test_nobody_reads_it_for_too_long(autojump_clock):
    """It is cancelled and charged as that of a client that left, and its blocks are free."""
    async with kept_stage(keep_s=5.0, step_s=1.0) as (service, kept):
        reader = begin(service, kept)
        await reader.answer.begun()
        await reader.next_events()
        reader.close()
        await trio.sleep(6)
        await service.assert_clean()
        row = service.row(reader.answer.request.request_id)
        assert (row["outcome"], row["why"]) == ("gone", "client_gone")
        assert row["discarded_tokens"] + row["completion_tokens"] > 0
        with pytest.raises(NotFound):
            kept.find(reader.answer.request.request_id, TENANT)
        assert (len(kept), kept.used_bytes) == (0, 0)


async def test_an_ended_answer_is_dropped_after_its_time(autojump_clock):
    async with kept_stage(keep_s=5.0) as (service, kept):
        reader = begin(service, kept, key="k")
        await read(reader)
        await trio.sleep(4)
        await read(kept.find(reader.answer.request.request_id, TENANT))
        await trio.sleep(4)
        assert len(kept) == 1
        await trio.sleep(2)
        assert (len(kept), kept.used_bytes) == (0, 0)
        await read(begin(service, kept, key="k"))
        assert len(service.rows()) == 2


async def test_only_its_tenant_finds_it(autojump_clock):
    async with kept_stage() as (service, kept):
        reader = begin(service, kept, key="k", tenant="alice")
        answer_id = reader.answer.request.request_id
        with pytest.raises(NotFound):
            kept.find(answer_id, "bob")
        other = begin(service, kept, key="k", tenant="bob")
        assert other.answer is not reader.answer
        await read(reader)
        await read(other)


async def test_a_key_stands_for_one_request(autojump_clock):
    async with kept_stage() as (service, kept):
        reader = begin(service, kept, key="k")
        with pytest.raises(IdempotencyKeyReused):
            begin(service, kept, key="k", digest=b"another")
        await read(reader)
        with pytest.raises(IdempotencyKeyReused):
            begin(service, kept, key="k", digest=b"another")


async def test_a_refusal_reaches_all_and_is_not_kept(autojump_clock):
    async with kept_stage() as (service, kept):
        readers = [begin(service, kept, key="k", model="unknown") for _ in range(2)]
        answers = [await read(reader) for reader in readers]
        assert [answer.refusal.body.code for answer in answers] == ["model_not_found"] * 2
        assert len(kept) == 0
        assert (await read(begin(service, kept, key="k"))).text() == TEXT


async def test_a_failed_answer_can_be_read_but_not_retried(autojump_clock):
    """What broke off is there for whoever resumes; the same key begins anew."""
    async with kept_stage() as (service, kept):
        service.on_step["small"] = fails_at(8)
        reader = begin(service, kept, key="k")
        failed = await read(reader)
        assert isinstance(failed.end, Failed)
        again = await read(kept.find(reader.answer.request.request_id, TENANT))
        assert again.events == failed.events
        retried = begin(service, kept, key="k")
        assert retried.answer is not reader.answer
        await read(retried)


async def test_a_dropped_answer_takes_no_later_ones_key_along(autojump_clock):
    async with kept_stage(keep_s=5.0) as (service, kept):
        service.on_step["small"] = fails_at(8)
        failed = begin(service, kept, key="k")
        await read(failed)
        retried = begin(service, kept, key="k")
        await trio.sleep(6)
        with pytest.raises(NotFound):
            kept.find(failed.answer.request.request_id, TENANT)
        again = begin(service, kept, key="k")
        assert again.answer is retried.answer
        assert (await read(again)).text() == (await read(retried)).text()


async def test_a_defect_ends_only_its_answer(autojump_clock, monkeypatch):
    async with kept_stage() as (service, kept):

        async def broken(request):
            raise ZeroDivisionError

        with monkeypatch.context() as patch:
            patch.setattr(kept, "_start", broken)
            assert (await read(begin(service, kept))).refusal.body.code == "internal_error"
        assert (await read(begin(service, kept))).text() == TEXT


async def test_the_memory_is_bounded(autojump_clock):
    """Ended answers make room, the tenant's own first; others are not kept, and nobody's are lost."""
    async with kept_stage(memory_bytes=1 << 18) as (service, kept):
        others = begin(service, kept, tenant="bob")
        await read(others)
        one = others.answer.bytes
        kept_ids = []
        for _ in range(2 * (1 << 16) // one):
            reader = begin(service, kept)
            assert (await read(reader)).text() == TEXT
            kept_ids.append(reader.answer.request.request_id)
            assert kept.used_bytes <= 1 << 18
        kept.find(others.answer.request.request_id, "bob").close()
        kept.find(kept_ids[-1], TENANT).close()
        with pytest.raises(NotFound):
            kept.find(kept_ids[0], TENANT)


async def test_an_answer_that_is_too_long_is_not_kept(autojump_clock):
    """Its reader gets all of it."""
    async with kept_stage(memory_bytes=1 << 15) as (service, kept):
        reader = begin(service, kept)
        answer = await read(reader)
        assert answer.text() == TEXT
        assert isinstance(answer.end, Done)
        assert (len(kept), kept.used_bytes) == (0, 0)


async def test_a_long_request_and_an_answer_that_is_not_kept(autojump_clock):
    """The request's own bytes do not count as unsent ones."""
    async with kept_stage(memory_bytes=1 << 26) as (service, kept):
        request = msgspec.structs.replace(service.request("small"), body_bytes=1 << 22)
        reader = kept.begin(request, TENANT, endpoint="chat.completions", created=1)
        assert (await read(reader)).text() == TEXT
        assert len(kept) == 0


async def test_many_that_nobody_reads_do_not_run_on(autojump_clock, monkeypatch):
    monkeypatch.setattr("actors.kept.kept_answers._UNREAD", 2)
    async with kept_stage(step_s=2.0) as (service, kept):
        readers = [begin(service, kept) for _ in range(4)]
        for reader in readers:
            await reader.answer.begun()
            await reader.next_events()
        for reader in readers:
            reader.close()
        await trio.sleep(1)
        assert sum(reader.answer.ended for reader in readers) == 2
        assert len(kept) == 2


async def test_nothing_is_kept_where_that_is_off(autojump_clock):
    async with kept_stage(keep_s=0.0) as (service, kept):
        assert begin(service, kept, key="k") is None


async def test_when_the_server_stops_readers_are_told(autojump_clock):
    async with stage({"small": says(TEXT)}, step_s=2.0) as service, trio.open_nursery() as nursery:
        kept = service.service.kept
        reader = begin(service, kept)
        answer = Answer()
        nursery.start_soon(read, reader, answer)
        await trio.sleep(9)
        await service.service.drain(trio.current_time())
        await trio.sleep(1)
        assert isinstance(answer.end, Failed)
        assert answer.end.error.code == "shutting_down"


@pytest.mark.parametrize(
    ("said", "asked", "expected"),
    [
        (call("Paris"), ASKED, True),
        (call("Paris"), FORCED, True),
        (LEAD, ASKED, False),
        (f"{LEAD}\n{call('Paris')}", ASKED, False),
    ],
)
async def test_whose_call_is_being_made_learns_of_it_before_the_call_is_whole(autojump_clock, said, asked, expected):
    async with kept_stage(script=says(said, prompt=LENGTH)) as (service, kept):
        began = trio.current_time()
        reader = begin(service, kept, prompts=(asked,), max_tokens=200)
        assert await reader.answer.begins() is expected
        assert (reader.answer.position == 0) is expected
        begins_s = trio.current_time() - began
        answered = await read(reader)
        assert isinstance(answered.end, Done)
        assert begins_s < 1.0 < trio.current_time() - began
