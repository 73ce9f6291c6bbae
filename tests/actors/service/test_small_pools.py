"""A prompt that a KV pool cannot hold is refused, or goes where it fits; nobody waits for blocks that never come."""

import pytest
import trio

from actors.api.request import TokenPrompt
from tests.actors.fakes import CONFIG, says, stage
from tests.actors.request.test_draft_verification import attempts, config

TEXT = "the quick brown fox"
SMALL = {"small": 4, "large": 256}
"""Three blocks of sixteen tokens, one is scratch: prompt and output of the small engine have room for 48 tokens."""
LARGE = {"small": 256, "large": 4}
LONG = tuple(range(5, 105))


def scripts(*, sure: bool = True) -> dict:
    """Both say the text after `LONG`; the small one is sure of it or not."""
    margins = None if sure else dict.fromkeys(range(10), 0.1)
    return {"small": says(TEXT, margins, prompt=len(LONG)), "large": says(TEXT, prompt=len(LONG))}


@pytest.fixture
def within(autojump_clock):
    """An answer within this many virtual seconds, or the test fails: nothing may hang."""

    async def ask(service, model, **options):
        with trio.fail_after(15):
            return await service.ask(model, **options)

    return ask


@pytest.mark.parametrize("prompt", [{"text": "word " * 60}, {"prompts": (TokenPrompt(LONG),)}], ids=["chat", "tokens"])
@pytest.mark.parametrize("options", [{}, {"n": 4, "temperature": 1.0}, {"max_tokens": 3}], ids=str)
async def test_what_no_rung_can_hold_is_refused_with_figures(within, prompt, options):
    async with stage(pools={"small": 4, "large": 4}) as service:
        for model in ("small", "large", "both", "whole"):
            body = (await within(service, model, **prompt, **options)).refusal.body
            assert (body.status, body.code) == (400, "context_length_exceeded")
            assert "maximum context length is 48 tokens" in body.message
            assert not body.should_retry


async def test_one_of_several_prompts_is_enough_to_refuse(within):
    async with stage(pools={"small": 4, "large": 4}) as service:
        answer = await within(service, "small", prompts=(TokenPrompt((5, 6)), TokenPrompt(LONG)))
        assert answer.refusal.body.code == "context_length_exceeded"


async def test_prompt_and_output_count_together(within):
    async with stage(pools={"small": 4, "large": 4}) as service:
        prompts = (TokenPrompt(LONG[:40]),)
        assert (await within(service, "small", prompts=prompts, max_tokens=9)).refusal.body.status == 400
        answer = await within(service, "small", prompts=prompts, max_tokens=8, ignore_eos=True)
        assert answer.reasons() == ["length"]
        # Nobody said how much: all that the pool leaves.
        assert len((await within(service, "small", prompts=prompts, ignore_eos=True)).tokens()) == 8


async def test_choices_that_fit_one_by_one_and_not_together_are_all_answered(within):
    async with stage(pools={"small": 4, "large": 4}) as service:
        options = {"n": 6, "temperature": 1.0, "seed": 1, "max_tokens": 10, "ignore_eos": True}
        answer = await within(service, "small", prompts=(TokenPrompt(LONG[:30]),), **options)
        assert answer.reasons() == ["length"] * 6
        assert len({tuple(answer.tokens(choice)) for choice in range(6)}) == 6


async def test_a_ladder_goes_on_to_the_rung_that_holds_it(within):
    async with stage(scripts(), pools=SMALL) as service:
        answer = await within(service, "small", prompts=(TokenPrompt(LONG),))
        assert answer.text() == TEXT
        assert [attempt[:2] for attempt in attempts(answer)] == [("small", "refused"), ("large", "answered")]


@pytest.mark.parametrize("model", ["both", "whole"])
async def test_a_cascade_whose_small_pool_is_too_small_asks_the_large_one(within, model):
    async with stage(scripts(), pools=SMALL) as service:
        answer = await within(service, model, prompts=(TokenPrompt(LONG),))
        assert answer.text() == TEXT
        assert answer.end.served.rung == "large"


@pytest.mark.parametrize("model", ["both", "whole"])
async def test_a_cascade_whose_large_pool_is_too_small_lets_the_small_one_answer(within, model):
    async with stage(scripts(), pools=LARGE) as service:
        answer = await within(service, model, prompts=(TokenPrompt(LONG),))
        assert answer.text() == TEXT
        assert answer.end.served.rung == "small"


@pytest.mark.parametrize("model", ["both", "whole"])
async def test_an_escalation_into_too_small_a_pool_ends_with_its_reason(within, model):
    async with stage(scripts(sure=False), pools=LARGE) as service:
        body = (await within(service, model, prompts=(TokenPrompt(LONG),))).refusal.body
        assert (body.status, body.code, body.should_retry) == (400, "context_length_exceeded", False)
        assert "too long for large" in body.message
        record = service.service.admin.decision("r1")
        assert [(each.rung, each.why) for each in record.attempts] == [
            ("small", "low_margin"),
            ("large", "prompt_too_long"),
        ]


async def test_an_escalation_into_too_small_a_pool_goes_down_the_ladder(within):
    degraded = CONFIG.replace('on_failure = "large-only"', 'on_failure = "small-last"') + (
        '[[ladders.small-last]]\nto = "large"\n[[ladders.small-last]]\nto = "small"\nmark = "degraded"\n'
    )
    async with stage(scripts(sure=False), settings=degraded, pools=LARGE) as service:
        answer = await within(service, "whole", prompts=(TokenPrompt(LONG),))
        assert (answer.text(), answer.end.served.rung, answer.end.served.mark) == (TEXT, "small", "degraded")


async def test_drafts_of_an_engine_with_too_small_a_pool_are_done_without(within):
    async with stage(scripts(), settings=config(), pools=SMALL) as service:
        answer = await within(service, "checked", prompts=(TokenPrompt(LONG),))
        assert (answer.text(), answer.end.served.rung) == (TEXT, "large")


async def test_verified_answers_of_too_small_a_pool_come_from_the_fallback(within):
    async with stage(scripts(), settings=config(), pools=LARGE) as service:
        answer = await within(service, "checked", prompts=(TokenPrompt(LONG),))
        assert (answer.text(), answer.end.served.rung) == (TEXT, "small")
