"""Caps on the reasoning of engines, and reasoning that is hidden, by the official clients over real sockets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import openai
import pytest
import trio

from actors.api.request import ChatMessage, ChatPrompt
from engine.text.reasoning import PRESETS
from tests.actors.fakes import CONFIG, model_text, says, stage
from tests.engine.tiny_tokenizers import byte_level_tokenizer
from tests.gateway.harness import Gateway, connected, gateway

TOKENIZER = byte_level_tokenizer()
ASKED: Any = [{"role": "user", "content": "why?"}]
LENGTH = len(model_text().encode(ChatPrompt((ChatMessage("user", "why?"),))))
CLOSE = len(TOKENIZER.encode("</think>"))
ENDLESS = "<think>\n" + "A fox is quick. " * 400
CAP = 40
ROUTED = CONFIG.replace('name = "small"\nwhen', f'name = "small"\ncaps = {{ reasoning_tokens = {CAP} }}\nwhen')


def thought(cap: int) -> str:
    """What the reasoning is where it is closed at a cap."""
    ids = TOKENIZER.encode(ENDLESS)[: cap - CLOSE]
    return TOKENIZER.decode(ids).removeprefix("<think>").strip()


@asynccontextmanager
async def running(settings: str = CONFIG) -> AsyncIterator[Gateway]:
    async with (
        stage(
            {"small": says(ENDLESS, prompt=LENGTH)},
            settings=settings,
            reasoning=PRESETS["think"],
            lengths={"small": 4096},
            step_s=0.0001,
            clean=False,
        ) as service,
        gateway(service.service) as made,
    ):
        yield made


@asynccontextmanager
async def official(made: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{made.port}/v1", api_key="none", max_retries=0) as client:
        yield client


async def streamed(made: Gateway, asked: dict[str, Any]) -> list[Any]:
    """All chunks. By the synchronous client: the other one leaves generators open."""

    def read() -> list[Any]:
        with openai.OpenAI(base_url=f"http://127.0.0.1:{made.port}/v1", api_key="none", max_retries=0) as client:
            return list(
                client.chat.completions.create(
                    model="small", messages=ASKED, max_tokens=60, extra_body=asked, stream=True
                )
            )

    return await trio.to_thread.run_sync(read)


@pytest.mark.parametrize("who", ["request", "route"])
async def test_chat(who: str) -> None:
    asked = {"thinking_token_budget": CAP} if who == "request" else {}
    async with running(ROUTED if who == "route" else CONFIG) as made, official(made) as client:
        whole = await client.chat.completions.create(model="small", messages=ASKED, max_tokens=60, extra_body=asked)
        message: Any = whole.choices[0].message
        assert message.reasoning_content == thought(CAP)
        assert message.content
        assert whole.usage is not None
        assert whole.usage.completion_tokens_details is not None
        assert whole.usage.completion_tokens_details.reasoning_tokens == CAP
        assert whole.model_extra is not None
        assert whole.model_extra["penstock"]["reasoning_capped"] == who
        chunks = await streamed(made, asked)
        deltas = [chunk.choices[0].delta for chunk in chunks]
        assert "".join([each.reasoning_content for each in deltas if hasattr(each, "reasoning_content")]) == thought(
            CAP
        )
        assert "".join([each.content or "" for each in deltas]) == message.content
        assert chunks[-1].penstock["reasoning_capped"] == who


async def test_responses() -> None:
    async with running() as made, official(made) as client:
        answer = await client.responses.create(
            model="small", input="why?", max_output_tokens=60, extra_body={"reasoning": {"max_tokens": CAP}}
        )
        reasoning, message = answer.output
        assert reasoning.type == "reasoning"
        assert reasoning.content is not None
        assert reasoning.content[0].text == thought(CAP)
        assert message.type == "message"
        assert answer.usage is not None
        assert answer.usage.output_tokens_details.reasoning_tokens == CAP


async def test_messages() -> None:
    budget: Any = {"type": "enabled", "budget_tokens": 1024}
    async with running() as made:
        address = f"http://127.0.0.1:{made.port}"
        async with anthropic.AsyncAnthropic(base_url=address, api_key="none", max_retries=0) as client:
            answer: Any = await client.messages.create(model="small", messages=ASKED, max_tokens=1060, thinking=budget)
            assert [block.type for block in answer.content] == ["thinking", "text"]
            assert answer.content[0].thinking == thought(1024)
            assert answer.penstock["reasoning_capped"] == "request"


async def test_reasoning_that_is_hidden_is_made_and_counted() -> None:
    hidden = {"include_reasoning": False, "thinking_token_budget": CAP}
    async with running() as made, official(made) as client:
        shown = await client.chat.completions.create(
            model="small", messages=ASKED, max_tokens=60, extra_body={"thinking_token_budget": CAP}
        )
        whole = await client.chat.completions.create(model="small", messages=ASKED, max_tokens=60, extra_body=hidden)
        assert whole.choices[0].message.model_dump(exclude_unset=True).keys() == {"role", "content", "refusal"}
        assert whole.choices[0].message.content == shown.choices[0].message.content
        assert whole.usage == shown.usage
        deltas = [chunk.choices[0].delta for chunk in await streamed(made, hidden)]
        assert not any("reasoning_content" in (each.model_extra or {}) for each in deltas)
        assert "".join([each.content or "" for each in deltas]) == whole.choices[0].message.content
        async with connected(made) as socket:
            await socket.send(
                {"type": "start", "id": "a", "model": "small", "messages": ASKED, "max_tokens": 60, **hidden}
            )
            messages = await socket.until("done")
        assert not any("reasoning_content" in each for each in messages)
        with pytest.raises(openai.BadRequestError, match="would show the tokens of the reasoning"):
            await client.chat.completions.create(model="small", messages=ASKED, logprobs=True, extra_body=hidden)
