"""How likely a prompt is, and the prompt itself, on their way through the service."""

import pytest

from actors.api.request import ChatMessage, ChatPrompt, TextPrompt, TokenPrompt
from actors.api.response import Delta, Done, Usage
from tests.actors.fakes import CONFIG, PROMPT, model_text, says, stage

TOKENIZER = model_text().tokenizer
TEXT = "the quick brown fox"


def prompt_logprobs(answer, index: int = 0) -> list[int]:
    """Token ids of which something is said; it must come with the first of the choice."""
    deltas = [event for event in answer.events if isinstance(event, Delta) and event.index == index]
    assert not any(delta.prompt_logprobs for delta in deltas[1:])
    return [each.token_id for each in deltas[0].prompt_logprobs]


@pytest.mark.parametrize("streamed", [True, False])
async def test_every_choice_knows_its_prompt(autojump_clock, streamed):
    async with stage() as service:
        prompts = (TokenPrompt(PROMPT), TokenPrompt((9, 10)))
        asked = {"n": 2, "max_tokens": 5, "ignore_eos": True, "prompt_logprobs": 1, "streamed": streamed}
        answer = await service.ask("small", prompts=prompts, **asked)
        assert [prompt_logprobs(answer, index) for index in range(4)] == [[*PROMPT], [*PROMPT], [9, 10], [9, 10]]
        assert answer.end.usage == Usage(6, 20, 0)


@pytest.mark.parametrize("model", ["small", "both", "whole"])
async def test_a_prompt_alone_is_read_and_counted(autojump_clock, model):
    async with stage() as service:
        answer = await service.ask(model, max_tokens=1, prompt_only=True, prompt_logprobs=0)
        assert prompt_logprobs(answer) == [*PROMPT]
        assert (answer.tokens(), answer.text(), answer.reasons()) == ([], "", ["length"])
        assert isinstance(answer.end, Done)
        assert answer.end.usage == Usage(4, 0, 0)


async def test_a_prompt_that_fills_the_model_can_be_read(autojump_clock):
    async with stage() as service:
        prompt = (TokenPrompt((*range(1, 512), 5)),)
        answer = await service.ask("small", prompts=prompt, max_tokens=1, prompt_only=True, prompt_logprobs=0)
        assert len(prompt_logprobs(answer)) == 512
        refused = await service.ask("small", prompts=prompt, max_tokens=1, prompt_logprobs=0)
        assert refused.refusal.body.code == "context_length_exceeded"


async def test_one_model_speaks_of_the_prompt(autojump_clock):
    """In window mode the small one would have begun; asked how likely the prompt is, the cascade decides first."""
    scripts = {"small": says("unsure", {2: 0.1}), "large": says("surely")}
    async with stage(scripts) as service:
        answer = await service.ask("both", prompt_logprobs=1)
        assert answer.end.served.rung == "large"
        assert answer.text() == "surely"
        assert prompt_logprobs(answer) == [*PROMPT]


async def test_who_goes_on_says_nothing_of_the_prompt_again(autojump_clock):
    settings = CONFIG.replace(
        'use = { ladder = "small-first" }', 'use = { ladder = "small-first" }\nmidstream = "continue"'
    )
    async with stage({"small": says(TEXT), "large": says(TEXT)}, settings=settings) as service:

        def fail(number, batch):
            if number == 4:
                raise RuntimeError("broken")

        service.on_step["small"] = fail
        answer = await service.ask("small", prompt_logprobs=1)
        assert (answer.text(), answer.end.served.rung) == (TEXT, "large")
        assert prompt_logprobs(answer) == [*PROMPT]


async def test_echo_is_the_text_as_it_came_or_that_of_the_tokens(autojump_clock):
    async with stage() as service:
        ids = tuple(TOKENIZER.encode("the dog"))
        prompts = (TextPrompt("Zürich"), TokenPrompt(ids))
        answer = await service.ask("small", prompts=prompts, n=2, max_tokens=2, echo=True, ignore_eos=True)
        assert answer.start.echo == ("Zürich", "Zürich", "the dog", "the dog")
        assert (await service.ask("small", prompts=prompts, max_tokens=2)).start.echo == ()


async def test_only_the_last_tokens_of_a_prompt_are_read(autojump_clock):
    async with stage() as service:
        ids = tuple(TOKENIZER.encode(TEXT))
        for prompt in (TokenPrompt(ids), TextPrompt(TEXT), ChatPrompt((ChatMessage("user", TEXT),))):
            asked = {"max_tokens": 2, "truncate_prompt_tokens": 3, "prompt_logprobs": 0, "echo": True}
            answer = await service.ask("small", prompts=(prompt,), **asked)
            assert prompt_logprobs(answer) == [*ids[-3:]]
            assert answer.end.usage.prompt_tokens == 3
            assert answer.start.echo == (TOKENIZER.decode(ids[-3:]),)
        assert (await service.ask("small", prompts=(TextPrompt(TEXT),), truncate_prompt_tokens=900)).refusal is None
