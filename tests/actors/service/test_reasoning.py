"""Models of engines that think: their reasoning and their content through every actor."""

from typing import Any

import pytest

from actors.api.request import ChatMessage, ChatPrompt
from actors.api.response import Delta
from engine.sampling.grammar import Grammar
from engine.text.reasoning import PRESETS
from engine.text.tool_calls import ToolSet
from tests.actors.fakes import CONFIG, TEMPLATE, Answer, model_text, says, stage
from tests.actors.prompt.test_output_constraints import ASKED, TOOL, call
from tests.actors.request.test_response_stream import fails_at
from tests.engine.tiny_tokenizers import byte_level_tokenizer

ASKS = ChatPrompt((ChatMessage("user", "why?"),))
SAID = "<think>\nA fox is quick.\n</think>\n\nIt jumps."
BLOCK = "<think>\nA fox is quick.\n</think>"
THINK = PRESETS["think"]


def tokens(text: str) -> int:
    return len(byte_level_tokenizer().encode(text))


def thinks(said: str = SAID, margins: dict[int, float] | None = None, prompt: ChatPrompt = ASKS) -> Any:
    return says(said, margins, prompt=len(model_text().encode(prompt)))


def parts(answer: Answer, index: int = 0) -> tuple[str, str, int]:
    deltas = [each for each in answer.events if isinstance(each, Delta) and each.index == index]
    reasoning = "".join([each.reasoning for each in deltas])
    return reasoning, answer.text(index), sum([each.reasoning_tokens for each in deltas])


EXPECTED = ("A fox is quick.", "It jumps.", tokens(BLOCK))


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("model", ["small", "both", "whole"])
async def test_chat_has_reasoning_and_content(autojump_clock, streamed: bool, model: str) -> None:
    settings = CONFIG.replace('name = "both"', 'name = "both"\nmidstream = "continue"')
    async with stage({"small": thinks(), "large": thinks()}, settings=settings, reasoning=THINK) as service:
        answer = await service.ask(model, prompts=(ASKS,), streamed=streamed, n=1 if model == "both" else 2)
        assert parts(answer) == EXPECTED
        choices = 1 if model == "both" else 2
        assert parts(answer, choices - 1) == EXPECTED
        usage = answer.end.usage
        assert usage.completion_tokens == choices * (tokens(SAID) + 1)
        assert usage.reasoning_tokens == choices * EXPECTED[2]
        assert service.service.statistics().reasoning_tokens_total == usage.reasoning_tokens


async def test_an_escalation_within_the_reasoning_goes_on_with_it(autojump_clock) -> None:
    """The large model continues the small one's block from its released tokens."""
    half = tokens("<think>\nA fox")
    async with stage({"small": thinks(margins={half + 3: -9.0}), "large": thinks()}, reasoning=THINK) as service:
        answer = await service.ask("both", prompts=(ASKS,))
        assert (answer.start.rung, answer.end.served.rung) == ("small", "large"), "part of it was released before"
        assert parts(answer) == EXPECTED


OPENS = TEMPLATE + "{{ '<think>\n' }}"
LADDER = CONFIG.replace('name = "small"\nwhen', 'name = "small"\nmidstream = "continue"\nwhen')


async def test_an_answer_begins_inside_a_block_that_the_prompt_has_opened(autojump_clock) -> None:
    said = SAID.removeprefix("<think>\n")
    opened = model_text(reasoning=THINK, template=OPENS)
    script = says(said, prompt=len(opened.encode(ASKS)))
    async with stage({"small": script}, reasoning=THINK, template=OPENS) as service:
        answer = await service.ask("small", prompts=(ASKS,))
        assert parts(answer) == (*EXPECTED[:2], tokens(said[: said.index("\n\n")]))


@pytest.mark.parametrize("marks", [True, False])
async def test_another_model_goes_on_inside_of_it_only_if_it_has_the_markers(autojump_clock, marks: bool) -> None:
    """The small engine's prompt opened the block, the large one's has not."""
    said = SAID.removeprefix("<think>\n")
    small = model_text(reasoning=THINK, template=OPENS)
    large = model_text(reasoning=THINK if marks else None)
    scripts = {name: says(said, prompt=len(text.encode(ASKS))) for name, text in (("small", small), ("large", large))}
    async with stage(scripts, settings=LADDER, texts={"small": small, "large": large}) as service:
        service.on_step["small"] = fails_at(6)
        answer = await service.ask("small", prompts=(ASKS,))
        whys = [(each.rung, each.why) for each in answer.end.served.attempts]
        if marks:
            assert answer.end.served.rung == "large"
            assert parts(answer)[:2] == EXPECTED[:2]
        else:
            assert ("large", "cannot_continue") in whys
            assert parts(answer)[0]
            assert parts(answer)[0] in EXPECTED[0]


@pytest.mark.parametrize(
    ("options", "reasoning", "content"),
    [
        ({"max_tokens": tokens("<think>\nA fox")}, "A fox", ""),
        ({"max_tokens": tokens(BLOCK)}, "A fox is quick.", ""),
        ({"stop": ("quick",)}, "A fox is", ""),
        ({"stop": ("jump",)}, "A fox is quick.", "It "),
    ],
)
async def test_an_answer_that_ends_early(autojump_clock, options: dict[str, Any], reasoning: str, content: str) -> None:
    async with stage({"small": thinks()}, reasoning=THINK) as service:
        answer = await service.ask("small", prompts=(ASKS,), **options)
        assert parts(answer)[:2] == (reasoning, content)


async def test_calls_are_read_after_the_reasoning_only(autojump_clock) -> None:
    said = f"<think>\nI write {call('Rome')}?</think>\n\nI look.\n{call('Paris')}"
    async with stage({"small": thinks(said, prompt=ASKED)}, reasoning=THINK) as service:
        answer = await service.ask("small", prompts=(ASKED,))
        made = [each.arguments for event in answer.events if isinstance(event, Delta) for each in event.calls]
        assert made == ['{"city": "Paris"}']
        assert parts(answer)[:2] == (f"I write {call('Rome')}?", "I look.")


@pytest.mark.parametrize("text_only", [True, False])
async def test_other_texts_stay_as_they_are(autojump_clock, text_only: bool) -> None:
    """Of prompts that are no messages, and of models without reasoning."""
    prompt = {} if text_only else {"prompts": (ASKS,)}
    script = says(SAID) if text_only else thinks()
    async with stage({"small": script}, reasoning=THINK if text_only else None) as service:
        answer = await service.ask("small", **prompt)
        assert parts(answer) == ("", SAID, 0)
        assert answer.end.usage.reasoning_tokens == 0


SWITCH = TEMPLATE + "{% if not enable_thinking|default(true) %}{{ '<think>off</think>\n' }}{% endif %}"


@pytest.mark.parametrize(
    ("template", "ends"),
    [(TEMPLATE, "why?"), (SWITCH, "why?<think>off</think>\n"), (OPENS, "why?<think>\n\n</think>\n\n")],
)
async def test_where_a_grammar_binds_the_answer_there_is_no_reasoning(autojump_clock, template: str, ends: str) -> None:
    bound: list[dict[str, Any]] = [
        {"prompts": (ASKS,), "grammar": Grammar("choice", '["<think>yes", "no"]')},
        {"prompts": (ChatPrompt(ASKS.messages, ToolSet((TOOL,), choice="required")),), "max_tokens": 60},
    ]
    text = model_text(reasoning=THINK, template=template)
    assert text.tokenizer.decode(text.encode(ASKS, thinking=False)) == ends
    assert text.tokenizer.decode(text.encode(ASKS)).startswith("why?")
    async with stage(reasoning=THINK, template=template) as service:
        for options in bound:
            answer = await service.ask("small", **options, temperature=1.0, seed=1)
            reasoning, content, count = parts(answer)
            assert (reasoning, count) == ("", 0)
            assert content in {"<think>yes", "no", ""}
            assert answer.end.usage.prompt_tokens == len(text.encode(options["prompts"][0], thinking=False))


ENDLESS = "<think>\n" + "A fox is quick. " * 6
CLOSE = byte_level_tokenizer().encode("</think>")
CAP = tokens("<think>\nA fox") + len(CLOSE)


def capped(said: str = ENDLESS) -> str:
    """The content where the marker is forced at the cap, and the model then goes on as if nothing had happened."""
    return byte_level_tokenizer().decode(byte_level_tokenizer().encode(said)[CAP:]).lstrip()


def routed(tokens: int | None) -> str:
    caps = "" if tokens is None else f"\ncaps = {{ reasoning_tokens = {tokens} }}"
    return CONFIG.replace('name = "small"\nwhen', f'name = "small"{caps}\nwhen')


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("asked", "route", "who"), [(CAP, None, "request"), (None, CAP, "route"), (CAP, 60, "request"), (60, CAP, "route")]
)
async def test_the_reasoning_is_closed_at_its_cap_and_the_answer_goes_on(
    autojump_clock, asked: int | None, route: int | None, who: str, streamed: bool
) -> None:
    async with stage({"small": thinks(ENDLESS)}, settings=routed(route), reasoning=THINK) as service:
        answer = await service.ask("small", prompts=(ASKS,), streamed=streamed, n=2, reasoning_tokens=asked)
        for choice in range(2):
            assert parts(answer, choice) == ("A fox", capped(), CAP)
            assert answer.tokens(choice)[CAP - len(CLOSE) : CAP] == CLOSE
        assert answer.end.usage.reasoning_tokens == 2 * CAP
        assert answer.end.served.reasoning_capped == who


async def test_a_cap_that_is_not_reached_changes_nothing(autojump_clock) -> None:
    async with stage({"small": thinks()}, settings=routed(EXPECTED[2] + len(CLOSE)), reasoning=THINK) as service:
        answer = await service.ask("small", prompts=(ASKS,))
        assert parts(answer) == EXPECTED
        assert answer.end.served.reasoning_capped is None


async def test_a_cap_inside_a_block_that_the_prompt_has_opened(autojump_clock) -> None:
    said = ENDLESS.removeprefix("<think>\n")
    opened = model_text(reasoning=THINK, template=OPENS)
    script = says(said, prompt=len(opened.encode(ASKS)))
    async with stage({"small": script}, reasoning=THINK, template=OPENS) as service:
        answer = await service.ask("small", prompts=(ASKS,), reasoning_tokens=CAP, max_tokens=CAP + 9)
        reasoning, content, count = parts(answer)
        assert said.startswith(reasoning)
        assert count == CAP
        assert content
        assert answer.end.served.reasoning_capped == "request"


@pytest.mark.parametrize("text_only", [True, False])
async def test_where_there_is_no_reasoning_a_cap_has_no_effect(autojump_clock, text_only: bool) -> None:
    prompt = {} if text_only else {"prompts": (ASKS,)}
    script = says(ENDLESS) if text_only else thinks(ENDLESS)
    async with stage({"small": script}, reasoning=THINK if text_only else None) as service:
        answer = await service.ask("small", **prompt, reasoning_tokens=3)
        assert parts(answer) == ("", ENDLESS, 0)
        assert answer.end.served.reasoning_capped is None


async def test_the_cap_holds_for_both_stages_of_a_cascade(autojump_clock) -> None:
    early = tokens("<think>\n")
    scripts = {"small": thinks(ENDLESS, margins={early: -9.0}), "large": thinks(ENDLESS)}
    async with stage(scripts, reasoning=THINK) as service:
        answer = await service.ask("both", prompts=(ASKS,), reasoning_tokens=CAP)
        assert answer.end.served.rung == "large"
        assert parts(answer) == ("A fox", capped(), CAP)
        assert answer.end.served.reasoning_capped == "request"


EFFORT = TEMPLATE + "{% if reasoning_effort is defined %}{{ 'effort ' + reasoning_effort }}{% endif %}"


async def test_a_template_that_knows_the_effort_gets_it(autojump_clock) -> None:
    text = model_text(template=EFFORT)
    assert text.tokenizer.decode(text.encode(ASKS, effort="low")) == "why?effort low"
    assert text.tokenizer.decode(text.encode(ASKS)) == "why?"
    async with stage(template=EFFORT) as service:
        answer = await service.ask("small", prompts=(ASKS,), effort="low", effort_field="reasoning.effort")
        assert answer.end.usage.prompt_tokens == len(text.encode(ASKS, effort="low"))


@pytest.mark.parametrize("model", ["small", "both"])
async def test_where_no_template_knows_it_the_field_is_named(autojump_clock, model: str) -> None:
    async with stage() as service:
        answer = await service.ask(model, prompts=(ASKS,), effort="low", effort_field="reasoning.effort")
        assert answer.refusal is not None
        assert (answer.refusal.body.status, answer.refusal.body.param) == (400, "reasoning.effort")
        assert answer.refusal.body.code == "unsupported_parameter"


async def test_an_engine_that_does_not_know_it_is_passed_over(autojump_clock) -> None:
    texts = {"small": model_text(), "large": model_text(template=EFFORT)}
    async with stage(settings=LADDER, texts=texts) as service:
        answer = await service.ask("small", prompts=(ASKS,), effort="low", effort_field="reasoning_effort")
        assert answer.end.served.rung == "large"
        assert answer.end.served.attempts[0].why == "unsupported_parameter"
