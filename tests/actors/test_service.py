"""The whole way of a request through every actor, on the test's clock."""

from collections.abc import Callable

import pytest
import trio

from actors.api.request import TextPrompt, TokenPrompt
from actors.api.response import Delta, Done, Failed, Start, Usage
from actors.protocol.delivery import Delivery, JobOutput
from actors.request.response_stream import ResponseStream
from engine.messages import TokenDelta
from tests.actors.fakes import CONFIG, PROMPT, Answer, says, stage

TEXT = "the quick brown fox"


async def test_an_answer_streams_and_is_accounted_for(autojump_clock):
    async with stage({"small": says(TEXT)}) as service:
        answer = await service.ask("small")
        assert answer.refusal is None
        assert answer.text() == TEXT
        assert (answer.start.route, answer.start.rung, answer.start.prompt_tokens) == ("small", "small", 4)
        assert answer.reasons() == ["stop"]
        tokens = len(answer.tokens())
        assert answer.end.usage == Usage(4, tokens, 0)
        assert (answer.end.served.rung, answer.end.served.why) == ("small", "asked_for")
        await service.assert_clean()
        row = service.row("r1")
        assert (row["prompt_tokens"], row["completion_tokens"], row["outcome"]) == (4, tokens, "ok")
        statistics = service.service.statistics()
        assert statistics.completion_tokens_total == tokens
        assert statistics.usage["anonymous", "small", "ok"] == (1, 4, tokens)
        assert service.quota_use().spent_total == 4 + tokens


async def test_a_whole_answer_comes_in_one_piece(autojump_clock):
    async with stage({"small": says(TEXT)}) as service:
        response = await service.open("small", streamed=False)
        events = await response.next_events()
        assert Answer(events).text() == TEXT
        assert isinstance(events[-1], Done)
        assert await response.next_events() == []


async def test_prompts_times_choices_are_one_answer(autojump_clock):
    async with stage() as service:
        prompts = (TokenPrompt(PROMPT), TokenPrompt((9, 10)))
        answer = await service.ask(
            "small", prompts=prompts, n=2, max_tokens=5, temperature=1.0, seed=3, ignore_eos=True
        )
        assert answer.reasons() == ["length"] * 4
        assert answer.end.usage == Usage(6, 20, 0)
        assert answer.tokens(0) != answer.tokens(1)
        assert answer.tokens(0) != answer.tokens(2)


async def test_text_and_chat_are_encoded(autojump_clock):
    async with stage({"small": says(TEXT, prompt=4)}) as service:
        assert (await service.ask("small", text="the quick brown fox")).start.prompt_tokens > 0
        assert (
            await service.ask("small", prompts=(TextPrompt("hi " * 20_000),))
        ).refusal.body.code == "context_length_exceeded"


async def test_an_unset_max_tokens_is_what_the_model_leaves(autojump_clock):
    async with stage() as service:
        answer = await service.ask("small", ignore_eos=True)
        assert len(answer.tokens()) == 512 - 4


async def test_a_route_caps_the_output(autojump_clock):
    capped = CONFIG.replace(
        'use = { ladder = "small-first" }', 'use = { ladder = "small-first" }\ncaps = { output_tokens = 7 }'
    )
    async with stage(settings=capped) as service:
        assert len((await service.ask("small", ignore_eos=True)).tokens()) == 7
        assert len((await service.ask("small", ignore_eos=True, max_tokens=30)).tokens()) == 7
        assert len((await service.ask("small", ignore_eos=True, max_tokens=3)).tokens()) == 3


async def test_too_long_a_prompt_is_refused_with_figures(autojump_clock):
    async with stage() as service:
        refusal = (await service.ask("small", prompts=(TokenPrompt(tuple(range(5, 405)) * 2),))).refusal
        assert (refusal.body.status, refusal.body.code) == (400, "context_length_exceeded")
        assert "512" in refusal.body.message
        assert "800" in refusal.body.message
        refusal = (await service.ask("small", max_tokens=510)).refusal
        assert refusal.body.code == "context_length_exceeded"


async def test_what_the_engine_refuses_is_the_clients_error(autojump_clock):
    async with stage() as service:
        refusal = (await service.ask("small", prompts=(TokenPrompt((5, 6, 9_999)),))).refusal
        assert (refusal.body.status, refusal.body.code) == (400, "token_out_of_vocabulary")
        assert not refusal.body.should_retry


async def test_an_unknown_model_is_answered_with_the_nearest_name(autojump_clock):
    async with stage() as service:
        refusal = (await service.ask("smal")).refusal
        assert (refusal.body.status, refusal.body.code) == (404, "model_not_found")
        assert "'small'" in refusal.body.message
        assert service.service.statistics().refusals_total == {"model_not_found": 1}


async def test_a_reader_that_leaves_frees_everything(autojump_clock):
    async with stage() as service:
        response = await service.open("small", ignore_eos=True)
        first = Answer(await response.next_events())
        response.close()
        response.close()
        await service.assert_clean()
        tokens = len(first.tokens())
        row = service.row("r1")
        assert (row["outcome"], row["prompt_tokens"], row["completion_tokens"]) == ("gone", 4, tokens)
        assert row["discarded_tokens"] <= 2
        assert await response.next_events() == []


async def test_a_reader_that_is_cancelled_while_it_waits_frees_everything(autojump_clock):
    async with stage() as service:
        with trio.move_on_after(1.05):
            await service.ask("small", ignore_eos=True)
        await service.assert_clean()
        assert service.row("r1")["outcome"] == "gone"


async def test_opening_and_closing_at_once_costs_nothing(autojump_clock):
    async with stage() as service:
        (await service.open("small")).close()
        await service.assert_clean()
        row = service.row("r1")
        assert (row["outcome"], row["prompt_tokens"], row["completion_tokens"]) == ("gone", 0, 0)


async def test_cancelled_while_admission_decides(autojump_clock):
    async with stage() as service:
        with trio.CancelScope() as scope:
            scope.cancel()
            service.wake_admission()
            await service.open("small")
        assert scope.cancelled_caught
        assert service.service.statistics().in_flight == 0


async def test_what_is_drained_is_refused_ends_or_is_cut(autojump_clock):
    async with stage({"large": says("short")}, clean=False) as service:
        long = await service.open("small", ignore_eos=True)
        short = await service.open("large")
        answers: dict[str, Answer] = {}

        async def read(name: str, response) -> None:
            answers[name] = await service.read(response)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, "long", long)
            nursery.start_soon(read, "short", short)
            await trio.sleep(0.5)
            nursery.start_soon(service.service.drain, trio.current_time() + 5)
            await trio.sleep(0.1)
            assert not service.service.readiness().ready
            refusal = (await service.ask("small")).refusal
            assert (refusal.body.status, refusal.body.code) == (503, "shutting_down")
        assert answers["short"].text() == "short"
        failed = answers["long"].end
        assert isinstance(failed, Failed)
        assert failed.error.code == "shutting_down"
        assert failed.usage.completion_tokens == len(answers["long"].tokens())
        assert service.service.readiness().state == "dead"
        assert service.service.statistics().ledger.pending == 0
        assert service.row("r1")["outcome"] == "failed"
        await service.assert_clean()


@pytest.mark.parametrize("pause_s", [0, 0.1])
async def test_a_second_drain_ends_what_runs(autojump_clock, pause_s):
    async with stage() as service:
        response, answer = await service.open("small", ignore_eos=True, max_tokens=400), Answer()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.read, response, answer)
            await trio.sleep(0.5)
            before = trio.current_time()
            nursery.start_soon(service.service.drain, before + 1000)
            await trio.sleep(pause_s)
            nursery.start_soon(service.service.drain, before)
        assert trio.current_time() < before + 1
        assert isinstance(answer.end, Failed)
        assert answer.end.error.code == "shutting_down"
        assert answer.end.usage.completion_tokens == len(answer.tokens()) > 0
        assert service.service.readiness().state == "dead"
        assert service.service.statistics().ledger.pending == 0
        assert service.row("r1")["outcome"] == "failed"
        await service.assert_clean()


async def test_drain_of_an_idle_service_takes_no_time(autojump_clock):
    async with stage() as service:
        before = trio.current_time()
        await service.service.drain(before + 100)
        assert trio.current_time() == before


async def test_before_the_engines_are_loaded_nothing_is_taken_in(autojump_clock):
    async with stage(ready=False, load_s=3.0) as service:
        await trio.sleep(1)
        readiness = service.service.readiness()
        assert (readiness.ready, readiness.engines["small"].state) == (False, "loading")
        assert (await service.ask("small")).refusal.body.code == "loading"
        await service.until_ready()
        assert service.service.models()[0].max_model_len == 512


@pytest.mark.parametrize("model", ["small", "whole"])
async def test_leaving_a_whole_answer_is_not_free(autojump_clock, model):
    async with stage() as service:
        with trio.move_on_after(2.05):
            await service.ask(model, streamed=False, ignore_eos=True, max_tokens=100)
        await service.assert_clean()
        row = service.row("r1")
        assert (row["outcome"], row["prompt_tokens"], row["completion_tokens"]) == ("gone", 4, 0)
        assert 10 < row["discarded_tokens"] < 25
        spent = service.quota_use().spent_total
        assert spent == 4 + row["discarded_tokens"]
        assert service.service.statistics().discarded_tokens_total == row["discarded_tokens"]


def cut_when(monkeypatch, response: ResponseStream, is_time: Callable[[JobOutput], bool]) -> None:
    """Cut it in the same breath in which this output comes."""
    put = Delivery.put

    def put_and_cut(self: Delivery, job_id: int, output: JobOutput) -> bool:
        kept = put(self, job_id, output)
        if self is response._delivery and is_time(output):
            response.cut("shutting_down", "The server is shutting down.")
        return kept

    monkeypatch.setattr(Delivery, "put", put_and_cut)


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_cut_behind_the_end_changes_nothing(autojump_clock, monkeypatch, streamed):
    async with stage({"small": says(TEXT)}) as service:
        response = await service.open("small", streamed=streamed)
        cut_when(monkeypatch, response, lambda output: output.finish is not None)
        answer = await service.read(response)
        assert answer.text() == TEXT
        assert [type(event) for event in answer.events if not isinstance(event, Delta)] == [Start, Done]
        await service.assert_clean()
        assert service.row("r1")["outcome"] == "ok"


@pytest.mark.parametrize(("model", "low"), [("both", 4), ("whole", 3)])
async def test_a_cut_behind_what_escalates_is_not_lost(autojump_clock, monkeypatch, model, low):
    async with stage({"small": says(TEXT, {low: 0.1}), "large": says(TEXT)}) as service:
        response = await service.open(model)
        cut_when(monkeypatch, response, lambda output: isinstance(output, TokenDelta) and min(output.margins) < 1)
        answer = await service.read(response)
        if model == "both":
            assert isinstance(answer.end, Failed)
            assert answer.end.error.code == "shutting_down"
        else:
            assert answer.refusal.body.code == "shutting_down"
        assert answer.text() != TEXT
        await service.assert_clean()


async def test_a_name_promises_what_all_of_its_engines_hold(autojump_clock):
    async with stage(lengths={"large": 300}) as service:
        lengths = {card.id: card.max_model_len for card in service.service.models()}
        assert lengths == {"small": 300, "large": 300, "both": 300, "whole": 300}
    alone = CONFIG.replace('[[ladders.small-first]]\nto = "large"\nmark = "fallback"\n', "")
    async with stage(lengths={"large": 300}, settings=alone) as service:
        assert next(card.max_model_len for card in service.service.models() if card.id == "small") == 512


async def test_gauges_are_right_before_the_first_step_and_while_idle(autojump_clock):
    async with stage({"small": says(TEXT)}) as service:
        stats = service.service.statistics().engines["small"]
        assert stats.total_blocks == stats.free_blocks > 200
        response = await service.open("small")
        await response.next_events()
        assert service.service.statistics().queues["small"].inside == 1
        await service.read(response)
        # Before anybody has told dispatch.
        assert service.service.statistics().queues["small"].inside == 0
