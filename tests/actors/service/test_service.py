"""The whole way of a request through every actor, on the test's clock."""

from collections.abc import Callable

import pytest
import trio

from actors.api.messages import Delta, Done, Failed, Start, TextPrompt, TokenPrompt, Usage
from actors.protocol.delivery import Delivery
from actors.request.response_stream import ResponseStream
from engine.core.messages import TokenOutput
from tests.actors.fakes import CONFIG, PROMPT, Answer, says, stage

TEXT = "the quick brown fox"


async def test_an_answer_streams_and_is_accounted_for(autojump_clock):
    async with stage({"small": says(TEXT)}) as house:
        answer = await house.ask("small")
        assert answer.refusal is None
        assert answer.text() == TEXT
        assert (answer.start.route, answer.start.rung, answer.start.prompt_tokens) == ("small", "small", 4)
        assert answer.reasons() == ["stop"]
        tokens = len(answer.tokens())
        assert answer.end.usage == Usage(4, tokens, 0)
        assert (answer.end.served.rung, answer.end.served.why) == ("small", "asked_for")
        await house.assert_clean()
        row = house.row("r1")
        assert (row["prompt_tokens"], row["completion_tokens"], row["outcome"]) == (4, tokens, "ok")
        statistics = house.house.statistics()
        assert statistics.completion_tokens_total == tokens
        assert statistics.usage["anonymous", "small", "ok"] == (1, 4, tokens)
        assert house.house._quota.statistics(0).tenants["anonymous"].spent_total == 4 + tokens


async def test_a_whole_answer_comes_in_one_piece(autojump_clock):
    async with stage({"small": says(TEXT)}) as house:
        exchange = await house.open("small", streamed=False)
        events = await exchange.__anext__()
        assert Answer(events).text() == TEXT
        assert isinstance(events[-1], Done)
        with pytest.raises(StopAsyncIteration):
            await exchange.__anext__()


async def test_prompts_times_choices_are_one_answer(autojump_clock):
    async with stage() as house:
        prompts = (TokenPrompt(PROMPT), TokenPrompt((9, 10)))
        answer = await house.ask("small", prompts=prompts, n=2, max_tokens=5, temperature=1.0, seed=3, ignore_eos=True)
        assert answer.reasons() == ["length"] * 4
        assert answer.end.usage == Usage(6, 20, 0)
        assert answer.tokens(0) != answer.tokens(1)
        assert answer.tokens(0) != answer.tokens(2)


async def test_text_and_chat_are_encoded(autojump_clock):
    async with stage({"small": says(TEXT, prompt=4)}) as house:
        assert (await house.ask("small", text="the quick brown fox")).start.prompt_tokens > 0
        assert (
            await house.ask("small", prompts=(TextPrompt("hi " * 20_000),))
        ).refusal.body.code == "context_length_exceeded"


async def test_an_unset_max_tokens_is_what_the_model_leaves(autojump_clock):
    async with stage() as house:
        answer = await house.ask("small", ignore_eos=True)
        assert len(answer.tokens()) == 512 - 4


async def test_a_route_caps_the_output(autojump_clock):
    capped = CONFIG.replace(
        'use = { ladder = "small-first" }', 'use = { ladder = "small-first" }\ncaps = { output_tokens = 7 }'
    )
    async with stage(settings=capped) as house:
        assert len((await house.ask("small", ignore_eos=True)).tokens()) == 7
        assert len((await house.ask("small", ignore_eos=True, max_tokens=30)).tokens()) == 7
        assert len((await house.ask("small", ignore_eos=True, max_tokens=3)).tokens()) == 3


async def test_too_long_a_prompt_is_refused_with_figures(autojump_clock):
    async with stage() as house:
        refusal = (await house.ask("small", prompts=(TokenPrompt(tuple(range(5, 405)) * 2),))).refusal
        assert (refusal.body.status, refusal.body.code) == (400, "context_length_exceeded")
        assert "512" in refusal.body.message
        assert "800" in refusal.body.message
        refusal = (await house.ask("small", max_tokens=510)).refusal
        assert refusal.body.code == "context_length_exceeded"


async def test_what_the_engine_refuses_is_the_clients_error(autojump_clock):
    async with stage() as house:
        refusal = (await house.ask("small", prompts=(TokenPrompt((5, 6, 9_999)),))).refusal
        assert (refusal.body.status, refusal.body.code) == (400, "token_out_of_vocabulary")
        assert not refusal.body.should_retry


async def test_an_unknown_model_is_told_the_nearest(autojump_clock):
    async with stage() as house:
        refusal = (await house.ask("smal")).refusal
        assert (refusal.body.status, refusal.body.code) == (404, "model_not_found")
        assert "'small'" in refusal.body.message
        assert house.house.statistics().refusals_total == {"model_not_found": 1}


async def test_a_reader_that_leaves_frees_everything(autojump_clock):
    async with stage() as house:
        exchange = await house.open("small", ignore_eos=True)
        first = Answer(await exchange.__anext__())
        exchange.close()
        exchange.close()
        await house.assert_clean()
        tokens = len(first.tokens())
        row = house.row("r1")
        assert (row["outcome"], row["prompt_tokens"], row["completion_tokens"]) == ("gone", 4, tokens)
        assert row["discarded_tokens"] <= 2
        with pytest.raises(StopAsyncIteration):
            await exchange.__anext__()


async def test_a_reader_that_is_cancelled_while_it_waits_frees_everything(autojump_clock):
    async with stage() as house:
        with trio.move_on_after(1.05):
            await house.ask("small", ignore_eos=True)
        await house.assert_clean()
        assert house.row("r1")["outcome"] == "gone"


async def test_opening_and_closing_at_once_costs_nothing(autojump_clock):
    async with stage() as house:
        (await house.open("small")).close()
        await house.assert_clean()
        row = house.row("r1")
        assert (row["outcome"], row["prompt_tokens"], row["completion_tokens"]) == ("gone", 0, 0)


async def test_cancelled_while_admission_decides(autojump_clock):
    async with stage() as house:
        with trio.CancelScope() as scope:
            scope.cancel()
            await house.open("small")
        assert scope.cancelled_caught
        assert house.house.statistics().in_flight == 0


async def test_what_is_drained_is_refused_ends_or_is_cut(autojump_clock):
    async with stage({"large": says("short")}, clean=False) as house:
        long = await house.open("small", ignore_eos=True)
        short = await house.open("large")
        answers: dict[str, Answer] = {}

        async def read(name: str, exchange) -> None:
            answers[name] = await house.read(exchange)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, "long", long)
            nursery.start_soon(read, "short", short)
            await trio.sleep(0.5)
            nursery.start_soon(house.house.drain, trio.current_time() + 5)
            await trio.sleep(0.1)
            assert not house.house.readiness().ready
            refusal = (await house.ask("small")).refusal
            assert (refusal.body.status, refusal.body.code) == (503, "shutting_down")
        assert answers["short"].text() == "short"
        failed = answers["long"].end
        assert isinstance(failed, Failed)
        assert failed.error.code == "shutting_down"
        assert failed.usage.completion_tokens == len(answers["long"].tokens())
        assert house.house.readiness().state == "dead"
        assert house.house.statistics().ledger.pending == 0
        assert house.row("r1")["outcome"] == "failed"
        await house.assert_clean()


async def test_drain_of_an_idle_house_takes_no_time(autojump_clock):
    async with stage() as house:
        before = trio.current_time()
        await house.house.drain(before + 100)
        assert trio.current_time() == before


async def test_before_the_engines_are_loaded_nothing_is_taken_in(autojump_clock):
    async with stage(ready=False, load_s=3.0) as house:
        await trio.sleep(1)
        readiness = house.house.readiness()
        assert (readiness.ready, readiness.engines["small"].state) == (False, "loading")
        assert (await house.ask("small")).refusal.body.code == "loading"
        await house.until_ready()
        assert house.house.models()[0].max_model_len == 512


@pytest.mark.parametrize("model", ["small", "whole"])
async def test_leaving_a_whole_answer_is_not_free(autojump_clock, model):
    async with stage() as house:
        with trio.move_on_after(2.05):
            await house.ask(model, streamed=False, ignore_eos=True, max_tokens=100)
        await house.assert_clean()
        row = house.row("r1")
        assert (row["outcome"], row["prompt_tokens"], row["completion_tokens"]) == ("gone", 4, 0)
        assert 10 < row["discarded_tokens"] < 25
        spent = house.house._quota.statistics(0).tenants["anonymous"].spent_total
        assert spent == 4 + row["discarded_tokens"]
        assert house.house.statistics().discarded_tokens_total == row["discarded_tokens"]


def cut_when(monkeypatch, exchange: ResponseStream, is_time: Callable[[TokenOutput], bool]) -> None:
    """Cut it in the same breath in which this output comes."""
    put = Delivery.put

    def put_and_cut(self: Delivery, work_id: int, output: TokenOutput) -> bool:
        kept = put(self, work_id, output)
        if self is exchange._delivery and is_time(output):
            exchange.cut("shutting_down", "The server is shutting down.")
        return kept

    monkeypatch.setattr(Delivery, "put", put_and_cut)


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_cut_behind_the_end_changes_nothing(autojump_clock, monkeypatch, streamed):
    async with stage({"small": says(TEXT)}) as house:
        exchange = await house.open("small", streamed=streamed)
        cut_when(monkeypatch, exchange, lambda output: output.finish is not None)
        answer = await house.read(exchange)
        assert answer.text() == TEXT
        assert [type(event) for event in answer.events if not isinstance(event, Delta)] == [Start, Done]
        await house.assert_clean()
        assert house.row("r1")["outcome"] == "ok"


@pytest.mark.parametrize(("model", "low"), [("both", 4), ("whole", 3)])
async def test_a_cut_behind_what_escalates_is_not_lost(autojump_clock, monkeypatch, model, low):
    async with stage({"small": says(TEXT, {low: 0.1}), "large": says(TEXT)}) as house:
        exchange = await house.open(model)
        cut_when(monkeypatch, exchange, lambda output: any(margin < 1 for margin in output.margins))
        answer = await house.read(exchange)
        if model == "both":
            assert isinstance(answer.end, Failed)
            assert answer.end.error.code == "shutting_down"
        else:
            assert answer.refusal.body.code == "shutting_down"
        assert answer.text() != TEXT
        await house.assert_clean()


async def test_a_name_promises_what_all_of_its_engines_hold(autojump_clock):
    async with stage(lengths={"large": 300}) as house:
        lengths = {card.id: card.max_model_len for card in house.house.models()}
        assert lengths == {"small": 300, "large": 300, "both": 300, "whole": 300}
    alone = CONFIG.replace('[[ladders.small-first]]\nto = "large"\nmark = "fallback"\n', "")
    async with stage(lengths={"large": 300}, settings=alone) as house:
        assert next(card.max_model_len for card in house.house.models() if card.id == "small") == 512


async def test_gauges_are_right_before_the_first_step_and_while_idle(autojump_clock):
    async with stage({"small": says(TEXT)}) as house:
        stats = house.house.statistics().engines["small"]
        assert stats.total_blocks == stats.free_blocks > 200
        exchange = await house.open("small")
        await exchange.__anext__()
        assert house.house.statistics().queues["small"].inside == 1
        await house.read(exchange)
        # Before anybody has told dispatch.
        assert house.house.statistics().queues["small"].inside == 0
