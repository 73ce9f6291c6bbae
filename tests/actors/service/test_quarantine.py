"""A request that crashes engines is found without taking its neighbours with it a second time."""

from types import MappingProxyType

import trio

from actors.api.request import (
    ChatMessage,
    ChatPrompt,
    Credentials,
    InferenceRequest,
    ParsedBody,
    RequestContent,
    TokenPrompt,
)
from actors.api.response import Done, Failed
from engine.errors import EngineError
from engine.sampling.params import SamplingParams
from engine.text.tool_calls import Tool, ToolSet
from tests.actors.fakes import CONFIG, Answer, stage

POISON = 77
BUDGET = "[retry_budget]\nat_least = 100\n"
THREE = (
    CONFIG.replace('model = "small"\n', 'model = "small"\nreplicas = 2\n')
    .replace("retries = 1", "retries = 3")
    .replace('[[routes]]\nname = "small"', '[retry_budget]\nat_least = 100\n[[routes]]\nname = "small"', 1)
)
GOES_ON = THREE.replace('use = { ladder = "small-first" }', 'use = { ladder = "small-first" }\nmidstream = "continue"')
NO_LARGE = '[[ladders.small-first]]\nto = "large"\nmark = "fallback"\n'


def poisoned(number, batch) -> None:
    if POISON in batch.token_ids:
        raise EngineError("device_lost", "the device fell off the bus")


def arm(service) -> None:
    for title in service.titles:
        service.on_step[title] = poisoned


def prompt(first: int) -> tuple[TokenPrompt]:
    return (TokenPrompt((first, 5, 6, 7)),)


async def ask_together(service, *firsts: int, **options) -> dict[int, Answer]:
    answers: dict[int, Answer] = {}

    async def ask(first: int) -> None:
        answers[first] = await service.ask("small", prompts=prompt(first), max_tokens=6, ignore_eos=True, **options)

    async with trio.open_nursery() as nursery:
        for first in firsts:
            nursery.start_soon(ask, first)
    return answers


async def test_the_culprit_is_refused_and_its_neighbours_are_answered(autojump_clock):
    async with stage(settings=THREE) as service:
        arm(service)
        answers = await ask_together(service, 10, 11, POISON, 12, 13, 14, streamed=False)
        refusal = answers.pop(POISON).refusal
        assert (refusal.body.status, refusal.body.code) == (422, "request_quarantined")
        assert "2 crashes of engines" in refusal.body.message
        assert not refusal.body.should_retry
        assert all(isinstance(answer.end, Done) and len(answer.tokens()) == 6 for answer in answers.values())
        # One crash with neighbours, and one alone.
        restarts = service.restarts
        assert sum(restarts[f"engine {title}"] for title in service.titles) == 2
        await trio.sleep(0.1)  # the last end was reported without a wake-up
        statistics = service.service.statistics()
        assert (statistics.quarantine.quarantined, statistics.quarantine.suspects) == (1, 0)


async def test_the_same_content_is_refused_whoever_sends_it_until_it_expires(autojump_clock):
    async with stage(settings=THREE + '[quarantine]\nkeep = "2m"\n') as service:
        arm(service)
        await ask_together(service, POISON, streamed=False)
        restarts = dict(service.restarts)
        for options in ({"streamed": True}, {"streamed": False}):
            answer = await service.ask("small", prompts=prompt(POISON), max_tokens=6, ignore_eos=True, **options)
            assert answer.refusal.body.code == "request_quarantined"
        # Other parameters are another request.
        service.on_step.clear()
        assert (await service.ask("small", prompts=prompt(POISON), max_tokens=7, ignore_eos=True)).refusal is None
        assert dict(service.restarts) == restarts
        assert service.service.statistics().refusals_total["request_quarantined"] == 3
        await trio.sleep(121)
        assert isinstance((await ask_together(service, POISON))[POISON].end, Done)


async def test_a_stream_that_had_begun_ends_with_the_error_and_its_neighbour_goes_on(autojump_clock):
    """It crashes at its fourth token, so that all have content by then."""
    async with stage(settings=GOES_ON) as service:

        def late(number, batch) -> None:
            if any(sample.params.seed == 7 and sample.position >= 7 for sample in batch.samples):
                raise EngineError("device_lost", "the device fell off the bus")

        for title in service.titles:
            service.on_step[title] = late
        answers: dict[int, Answer] = {}

        async def ask(first: int, **options) -> None:
            answers[first] = await service.ask("small", prompts=prompt(first), max_tokens=9, ignore_eos=True, **options)

        async with trio.open_nursery() as nursery:
            for first, options in ((10, {}), (11, {"seed": 7}), (12, {})):
                nursery.start_soon(lambda first=first, options=options: ask(first, **options))
        end = answers.pop(11).end
        assert isinstance(end, Failed)
        assert (end.error.status, end.error.code) == (422, "request_quarantined")
        assert all(isinstance(answer.end, Done) and len(answer.tokens()) == 9 for answer in answers.values())


async def test_it_opens_no_breaker_that_its_neighbours_need(autojump_clock):
    async with stage(settings=THREE.replace(NO_LARGE, "")) as service:
        arm(service)
        for first in range(POISON, POISON + 1):
            await ask_together(service, first, streamed=False)
        assert service.breaker("small").state == "closed"


def digest(**changes) -> bytes:
    body = {
        "model": "m",
        "prompts": (ChatPrompt((ChatMessage("user", "hi"),)),),
        "params": SamplingParams(max_tokens=1),
    }
    request = {"request_id": "r", "arrived_at": 0.0, "model": "m"}
    request |= {name: changes.pop(name) for name in list(changes) if name in InferenceRequest.__struct_fields__}
    return RequestContent(InferenceRequest(**request, body=ParsedBody(**body | changes))).digest


def test_content_is_what_is_asked_and_not_who_asks() -> None:
    same = digest()
    assert same == digest(
        request_id="q", arrived_at=5.0, credentials=Credentials(api_key="k"), user="u", streamed=False
    )
    others = [
        digest(prompts=(ChatPrompt((ChatMessage("user", "ho"),)),)),
        digest(params=SamplingParams(max_tokens=2)),
        digest(n=2),
        digest(adapter="a"),
    ]
    assert len({same, *others}) == 5


def test_whatever_a_client_writes_has_a_digest() -> None:
    written = {"name": "f", "parameters": {"maximum": 10**400, "const": "\ud800", "x": MappingProxyType({})}}
    tools = ToolSet((Tool("f", written, written["parameters"]),))
    assert (
        len(digest(prompts=(ChatPrompt((ChatMessage("user", "\udfff", written=MappingProxyType(written)),), tools),)))
        == 16
    )
