"""A whole service on the embedded pair, asked without the edge: by the large model alone, or verified."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import trio

from actors.api.request import ChatMessage, ChatPrompt, InferenceRequest, ParsedBody
from actors.api.response import Delta, Done, Served, Start
from actors.service import Service
from config.load import parse_settings
from engine.sampling.grammar import Grammar
from engine.sampling.params import SamplingParams
from engine.zoo.tasks import held_out_questions
from engine.zoo.train import MODELS
from gateway.engine_factories import engine_factories

_CONFIG = """
schema = 1
[ledger]
path = ":memory:"
[engines.small]
model = "small"
threads = 1
prefix_cache = {cache}
[engines.large]
model = "large"
threads = 1
prefix_cache = {cache}
[models.large]
[models.verified]
[tiers.default]
queue = {{ requests = 4096, tokens = 4_000_000, wait = "10m" }}
[[routes]]
name = "large"
when = {{ model = ["large"] }}
use = {{ ladder = "large" }}
deadlines = {{ ttft = "10m", stall = "60s", total = "1h" }}
[[routes]]
name = "verified"
use = {{ cascade = "verified" }}
deadlines = {{ ttft = "10m", stall = "60s", total = "1h" }}
[cascades.verified]
stages = ["small", "large"]
emit = {{ mode = "verified", draft_tokens = {draft_tokens}, off_above_batch = {off_above_batch} }}
on_failure = "large"
[[ladders.large]]
to = "large"
"""
_MAX_ANSWER_TOKENS = 96


class Asked(msgspec.Struct, frozen=True):
    """One answer."""

    text: str
    token_ids: tuple[int, ...]
    began_on: str
    """The rung whose words were shown first."""
    ttft_s: float
    e2e_s: float
    served: Served


@asynccontextmanager
async def embedded_service(
    *, draft_tokens: int = 64, off_above_batch: int = 4096, cache: bool = False
) -> AsyncIterator[Service]:
    """Running and ready. Without a prefix cache the second one who asks has no advantage."""
    text = _CONFIG.format(draft_tokens=draft_tokens, off_above_batch=off_above_batch, cache=str(cache).lower())
    settings = parse_settings(text, Path(MODELS) / "pair.toml")
    async with trio.open_nursery() as nursery:
        service = Service(settings, engine_factories(settings))
        await nursery.start(service.run)
        with trio.fail_after(120):
            while not service.readiness().ready:  # noqa: ASYNC110  (as any health probe asks)
                await trio.sleep(0.01)
        yield service
        nursery.cancel_scope.cancel()


def prompts(count: int, seed: int) -> list[str]:
    """Held-out questions of the zoo."""
    return [question.prompt for question in held_out_questions(Random(seed), count)]


async def ask(service: Service, model: str, prompt: str, *, grammar: Grammar | None = None, **params: float) -> Asked:
    """Streamed, to its end."""
    began = trio.current_time()
    given = {"max_tokens": _MAX_ANSWER_TOKENS, "temperature": 0.0, **params}
    request = InferenceRequest(
        request_id=f"{model}-{prompt}",
        body=ParsedBody(
            model=model,
            prompts=(ChatPrompt((ChatMessage("user", prompt),)),),
            grammar=grammar,
            params=SamplingParams(**given),  # type: ignore[arg-type]
        ),
        arrived_at=began,
    )
    response = await service.open(request)
    token_ids: list[int] = []
    texts: list[str] = []
    first, began_on = 0.0, ""
    try:
        while events := await response.next_events():
            for event in events:
                if isinstance(event, Delta):
                    first = first or trio.current_time() - began
                    token_ids += event.token_ids
                    texts.append(event.text)
                elif isinstance(event, Start):
                    began_on = event.rung
            last = events[-1]
    finally:
        response.close()
    if not isinstance(last, Done):
        raise SystemExit(f"the answer broke off: {last}")
    return Asked("".join(texts), tuple(token_ids), began_on, first, trio.current_time() - began, last.served)


async def ask_all(service: Service, model: str, questions: list[str], clients: int, **params: Any) -> list[Asked]:
    """By so many clients at once, each taking the next question when it has an answer."""
    answers: list[Asked | None] = [None] * len(questions)
    rest = iter(range(len(questions)))

    async def client() -> None:
        for index in rest:
            answers[index] = await ask(service, model, questions[index], **params)

    async with trio.open_nursery() as nursery:
        for _ in range(clients):
            nursery.start_soon(client)
    return [answer for answer in answers if answer is not None]
