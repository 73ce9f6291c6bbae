"""Cascades, ladders, breakers and deadlines, through every actor."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.api.response import Done, Failed
from engine.errors import EngineError
from engine.text.stop import StopMatcher
from tests.actors.configuration import STOPS
from tests.actors.fakes import CONFIG, PROMPT, Answer, says, stage
from tests.engine.tiny_tokenizers import byte_level_tokenizer

TEXT = "the quick brown fox jumps over the lazy dog"
OTHER = "ZZZZZZZZ"


def outcomes(answer: Answer) -> list[tuple[str, str, str]]:
    return [(each.rung, each.outcome, each.why) for each in answer.end.served.attempts]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("model", ["both", "whole"])
async def test_a_confident_small_answer_stands(autojump_clock, model, streamed):
    async with stage({"small": says(TEXT, {3: 2.5}), "large": says(OTHER)}) as service:
        answer = await service.ask(model, streamed=streamed)
        assert answer.text() == TEXT
        served = answer.end.served
        assert (served.rung, served.why, served.margin) == ("small", "confident", 2.5)
        assert len(service.runners["large"]) == 1
        assert service.runners["large"][0].steps == 0


async def test_gate_shows_nothing_of_what_it_does_not_trust(autojump_clock):
    async with stage({"small": says(OTHER, {6: 0.4}), "large": says(TEXT)}) as service:
        answer = await service.ask("whole")
        assert answer.text() == TEXT
        assert outcomes(answer) == [("small", "escalated", "low_margin"), ("large", "answered", "low_margin")]
        assert (answer.start.rung, answer.end.served.margin) == ("large", pytest.approx(0.4))
        assert answer.end.usage.prompt_tokens == 4
        assert answer.end.usage.completion_tokens == len(answer.tokens())
        await service.assert_clean()
        assert service.service.statistics().escalations_total == {("gate", "low_margin"): 1}
        assert service.row("r1")["discarded_tokens"] == 7


@pytest.mark.parametrize("low", range(12))
async def test_window_goes_on_after_what_was_shown(autojump_clock, low):
    """Both say the same: wherever the small one is left, the text must be whole, with every space and character."""
    text = "naïve 東京 the fox 👍🏽 ok"
    async with stage({"small": says(text, {low: 0.4}), "large": says(text)}) as service:
        answer = await service.ask("both")
        assert answer.text() == text
        tokens = byte_level_tokenizer().encode(text)
        assert answer.tokens()[: len(tokens)] == tokens
        assert answer.end.usage.completion_tokens == len(answer.tokens()) == len(tokens) + 1
        assert answer.end.served.rung == ("large" if low <= len(tokens) else "small")


@pytest.mark.parametrize("low", range(10))
@pytest.mark.parametrize("stop", ["fox jumps", "brown", "k b", "e quick brown fox ju"])
async def test_a_stop_string_across_two_engines_is_found(autojump_clock, low, stop):
    async with stage({"small": says(TEXT, {low: 0.4}), "large": says(TEXT)}) as service:
        answer = await service.ask("both", stop=(stop,))
        assert answer.text() == StopMatcher((stop,)).push(TEXT)
        assert answer.reasons() == ["stop"]


@pytest.mark.parametrize("low", [4, 5, 6, 7])
async def test_max_tokens_counts_what_was_shown(autojump_clock, low):
    async with stage({"small": says(TEXT, {low: 0.4}), "large": says(TEXT)}) as service:
        answer = await service.ask("both", max_tokens=8)
        assert answer.tokens() == byte_level_tokenizer().encode(TEXT)[:8]
        assert answer.reasons() == ["length"]


async def test_several_choices_are_decided_together(autojump_clock):
    async with stage({"small": says(TEXT), "large": says(OTHER)}) as service:
        answer = await service.ask("both", n=3)
        assert [answer.text(index) for index in range(3)] == [TEXT] * 3
        assert answer.end.served.rung == "small"


def fails_at(step: int, *, times: int = 1):
    left = [times]

    def on_step(number, batch):
        if number >= step and left[0]:
            left[0] -= 1
            raise EngineError("device_lost", "the device fell off the bus")

    return on_step


async def test_an_engine_that_fails_before_content_hands_over_to_the_ladder(autojump_clock):
    async with stage({"small": says(OTHER), "large": says(TEXT)}) as service:
        service.on_step["small"] = fails_at(0)
        answer = await service.ask("small")
        assert answer.text() == TEXT
        # The retry comes before the engine is back: its queue says so, and the next rung answers.
        assert outcomes(answer)[0] == ("small", "failed", "device_lost")
        assert answer.end.served.mark == "fallback"
        assert service.service.statistics().fallbacks_total["small", "small", "device_lost"] == 1
        await trio.sleep(5)
        assert service.service.statistics().engine_restarts_total == {"small": 1, "large": 0}
        assert (await service.ask("small")).text() == OTHER


async def test_an_engine_that_fails_after_content_ends_the_stream_truthfully(autojump_clock):
    async with stage({"small": says(TEXT)}, settings=STOPS) as service:
        service.on_step["small"] = fails_at(4)
        answer = await service.ask("small")
        assert isinstance(answer.end, Failed)
        assert TEXT.startswith(answer.text())
        assert answer.text()
        assert answer.end.error.status == 503
        assert answer.end.usage.completion_tokens == len(answer.tokens()) == 4
        await trio.sleep(5)
        assert service.row("r1")["outcome"] == "failed"
        assert service.row("r1")["completion_tokens"] == 4


async def test_a_whole_answer_survives_a_failure_in_its_middle(autojump_clock):
    async with stage({"small": says(OTHER), "large": says(TEXT)}) as service:
        service.on_step["small"] = fails_at(4)
        answer = await service.ask("small", streamed=False)
        assert answer.text() == TEXT
        await trio.sleep(5)


async def test_midstream_continue_goes_on_from_the_exact_tokens(autojump_clock):
    async with stage({"small": says(TEXT), "large": says(TEXT)}) as service:
        service.on_step["small"] = fails_at(4)
        answer = await service.ask("small")
        assert answer.text() == TEXT
        assert [each.rung for each in answer.end.served.attempts] == ["small", "large"]
        await trio.sleep(5)


async def test_streams_of_a_failed_engine_hear_of_it_and_what_waits_is_served(autojump_clock):
    async with stage(settings=STOPS) as service:
        service.on_step["large"] = fails_at(3)
        answers: list[Answer] = []

        async def ask() -> None:
            answers.append(await service.ask("large", max_tokens=20, ignore_eos=True))

        async with trio.open_nursery() as nursery:
            for _ in range(7):
                nursery.start_soon(ask)
        assert [type(answer.end) for answer in answers] == [Failed] * 4 + [Done] * 3


async def test_an_engine_that_stalls_is_left_behind(autojump_clock):
    async with stage({"small": says(TEXT), "large": says(OTHER)}, settings=CONFIG.replace("30s", "3s")) as service:
        before = service.worker("small")
        before.hang = True
        answer = await service.ask("small")
        assert answer.text() == OTHER
        assert outcomes(answer)[0] == ("small", "failed", "engine_stalled")
        await trio.sleep(5)
        assert service.worker("small") is not before
        assert (await service.ask("small")).text() == TEXT
        assert before.ended.is_set()


SLOW = """
deadlines = { ttft = "2s", stall = "3s", total = "10s" }
"""


async def test_no_first_token_in_time_is_a_504(autojump_clock):
    settings = CONFIG.replace('use = { ladder = "large-only" }', 'use = { ladder = "large-only" }' + SLOW)
    async with stage(settings=settings) as service:
        service.worker("large").step_s = 5
        before = trio.current_time()
        refusal = (await service.ask("large")).refusal
        assert (refusal.body.status, refusal.body.code) == (504, "ttft_timeout")
        assert 2 <= trio.current_time() - before < 2.1
        service.worker("large").step_s = 0.1
        await trio.sleep(10)


async def test_silence_within_a_stream_ends_it(autojump_clock):
    settings = CONFIG.replace('use = { ladder = "large-only" }', 'use = { ladder = "large-only" }' + SLOW)
    async with stage(settings=settings) as service:
        response = await service.open("large", ignore_eos=True)
        answer = Answer(list(await response.next_events()))
        service.worker("large").step_s = 60
        before = trio.current_time()
        await service.read(response, answer)
        assert isinstance(answer.end, Failed)
        assert [each.why for each in answer.end.served.attempts] == ["stall"]
        assert 3 <= trio.current_time() - before < 3.2
        await trio.sleep(100)


async def test_the_total_deadline_ends_a_long_answer(autojump_clock):
    settings = CONFIG.replace('use = { ladder = "large-only" }', 'use = { ladder = "large-only" }' + SLOW)
    async with stage(settings=settings) as service:
        before = trio.current_time()
        answer = await service.ask("large", ignore_eos=True)
        assert isinstance(answer.end, Failed)
        assert (answer.end.error.code, answer.end.error.status) == ("total_timeout", 504)
        assert 10 <= trio.current_time() - before < 10.2


async def test_a_breaker_opens_is_left_alone_and_closes_through_probes(autojump_clock):
    settings = CONFIG.replace(
        '[[ladders.large-only]]\nto = "large"',
        '[[ladders.large-only]]\nto = "large"\nttft = "1s"\nbreaker = { at_least = 2, open = "20s", probes = 1 }',
    )
    async with stage({"large": says(TEXT)}, settings=settings) as service:
        worker = service.worker("large")
        worker.step_s = 5
        for _ in range(2):
            assert (await service.ask("large")).refusal.body.status == 503
        await wait_all_tasks_blocked()
        assert service.service.statistics().breakers["large"] == "open"
        before = trio.current_time()
        refusal = (await service.ask("large")).refusal
        assert trio.current_time() == pytest.approx(before, abs=0.05)
        assert "breaker_open" in refusal.body.message
        assert refusal.body.retry_after_s > 10
        worker.step_s = 0.1
        await trio.sleep(25)
        assert service.service.statistics().breakers["large"] == "half_open"
        assert (await service.ask("large")).text() == TEXT
        await wait_all_tasks_blocked()
        assert service.service.statistics().breakers["large"] == "closed"


async def test_a_reader_that_is_too_slow_is_cut_and_nobody_else_waits(autojump_clock, monkeypatch):
    monkeypatch.setattr("actors.protocol.delivery.MOST_TOKENS", 40)
    async with stage(step_s=0.01) as service:
        slow = await service.open("large", ignore_eos=True)
        answer = Answer(list(await slow.next_events()))
        assert len((await service.ask("large", ignore_eos=True, max_tokens=100)).tokens()) == 100
        await trio.sleep(0.1)
        assert service.service.statistics().queues["large"].inside == 0
        await service.read(slow, answer)
        assert isinstance(answer.end, Failed)
        assert answer.end.error.code == "slow_reader"
        assert answer.end.usage.completion_tokens == len(answer.tokens()) == 41
        assert service.service.statistics().overrun_total == 1


async def test_a_whole_answer_is_never_too_long_for_its_slot(autojump_clock, monkeypatch):
    monkeypatch.setattr("actors.protocol.delivery.MOST_TOKENS", 40)
    async with stage(step_s=0.01) as service:
        answer = await service.ask("large", ignore_eos=True, max_tokens=300, streamed=False)
        assert len(answer.tokens()) == 300


async def test_a_slow_reader_gets_merged_pieces(autojump_clock):
    async with stage(step_s=0.01) as service:
        response = await service.open("large", ignore_eos=True, max_tokens=100)
        answer = Answer(list(await response.next_events()))
        await trio.sleep(5)
        events = await response.next_events()
        answer.events += events
        assert len(answer.tokens()) == 100
        assert len(events) == 33 + 1
        response.close()


async def test_a_static_answer_bills_nothing_that_nobody_got(autojump_clock):
    settings = CONFIG.replace('to = "large"\nmark = "fallback"', 'answer = "Later."\nmark = "fallback"')
    async with stage({"small": says(TEXT)}, settings=settings) as service:
        service.on_step["small"] = fails_at(6)
        answer = await service.ask("small", streamed=False)
        assert answer.text() == "Later."
        await trio.sleep(5)
        await service.assert_clean()
        row = service.row("r1")
        assert (row["outcome"], row["prompt_tokens"], row["completion_tokens"]) == ("ok", 0, 0)
        assert row["discarded_tokens"] == 6
        assert service.quota_use().spent_total == 0


@pytest.mark.parametrize("max_tokens", [0, 60])
async def test_nothing_is_released_that_the_large_model_cannot_go_on_from(autojump_clock, max_tokens):
    scripts = {"small": says(TEXT, {8: 0.1}), "large": says(TEXT)}
    async with stage(scripts, lengths={"large": 50}) as service:
        response = await service.open("both", max_tokens=max_tokens)
        answer = await service.read(response)
        assert service.service.admin.decision("r1").plan.cascade.mode == "gate"
        if max_tokens:
            # It can never be escalated; nothing was said, so a true status is possible.
            assert (answer.refusal.body.status, answer.refusal.body.code) == (400, "context_length_exceeded")
        else:
            assert answer.text() == TEXT
        response = await service.open("both", max_tokens=46)
        assert (await service.read(response)).text() == TEXT
        assert service.service.admin.decision("r2").plan.cascade.mode == "window"


async def test_an_answer_under_way_outwaits_its_tiers_queue(autojump_clock):
    settings = CONFIG.replace('wait = "20s"', 'wait = "2s"')
    async with stage({"small": says(TEXT, {8: 0.1}), "large": says(TEXT)}, settings=settings) as service:
        answers = []

        async def ask() -> None:
            answers.append(await service.ask("both"))

        async with trio.open_nursery() as nursery:
            # They take the large engine for much longer than anything may wait in its queue.
            for _ in range(5):
                response = await service.open("large", ignore_eos=True, max_tokens=100)
                nursery.start_soon(service.read, response)
            await trio.sleep(0.5)
            before = trio.current_time()
            nursery.start_soon(ask)
        assert answers[0].text() == TEXT
        assert trio.current_time() - before > 5


async def test_the_engine_knows_what_of_its_prompt_was_said_already(autojump_clock):
    async with stage({"small": says(TEXT, {8: 0.1}), "large": says(TEXT)}) as service:
        taken = []
        accept = service.worker("large").engine.accept
        service.worker("large").engine.accept = lambda command: (taken.append(command), accept(command))
        answer = await service.ask("both")
        assert answer.text() == TEXT
        assert taken[0].output_prefix == len(taken[0].prompt_token_ids) - len(PROMPT) > 0
