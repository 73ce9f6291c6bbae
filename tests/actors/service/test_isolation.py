"""What one tenant must not learn of another: prompts of others are not in its prefix cache, on no way to an engine."""

from typing import NamedTuple

import pytest
import trio

from actors.api.request import ChatMessage, ChatPrompt
from tests.actors.books.world import ALICE, BOB, LONG, TEXT, config, world
from tests.actors.fakes import says

UNSURE = says(TEXT, {1: 0.1}, prompt=len(LONG))
SURE = says(TEXT, prompt=len(LONG))
WAYS = {
    "small": ("small", {}),
    "large": ("large", {}),
    "several choices": ("small", {"n": 2}),
    "whole": ("small", {"streamed": False}),
    "small stage": ("whole", {}),
    "large stage": ("whole", {"small": UNSURE}),
    "window": ("both", {"small": UNSURE}),
    "drafts": ("checked", {}),
    "chat": ("small", {"text": "x" * 60}),
}


def hits(here) -> dict[str, int]:
    """Prompt tokens that the engines' prefix caches have supplied."""
    engines = here.service.service.statistics().engines
    return {name: engines[name].prefix_hits_total for name in ("small", "large")}


@pytest.mark.parametrize("way", WAYS)
async def test_a_prompt_is_found_again_by_its_own_tenant_alone(autojump_clock, way):
    model, options = WAYS[way]
    options = dict(options)
    small = options.pop("small", SURE)
    given = {"prompt": LONG, **options}
    if "text" in given:
        given["prompts"] = (ChatPrompt((ChatMessage("user", given.pop("text")),)),)
    async with world({"small": small, "large": SURE}, settings=config()) as here:
        await here.ask(model, api_key=ALICE.raw, **given)
        await here.service.assert_clean()
        own = hits(here)
        theirs = await here.ask(model, api_key=BOB.raw, **given)
        await here.service.assert_clean()
        found = {name: count - own[name] for name, count in hits(here).items()}
        again = await here.ask(model, api_key=ALICE.raw, **given)
        await here.service.assert_clean()
        # The second choice of one request finds what the first one has computed; nothing else may be found.
        assert found == own
        assert (theirs.end.usage.cached_tokens, again.end.usage.cached_tokens) == (
            0,
            32 if "text" not in options else 48,
        )
        assert hits(here) != {name: 3 * count for name, count in own.items()}


class Case(NamedTuple):
    first: dict[str, str]
    """How alice asks, before bob asks the same."""
    second: dict[str, str]
    found: int = 0
    """Tokens of bob's prompt that are found."""
    alice: str = ""
    """In her table of the settings."""
    bob: str = ""


SHARED = 'cache_domain = "legal"'
CASES = {
    "tenants": Case({}, {}),
    "the same salt": Case({"cache_salt": "a"}, {"cache_salt": "a"}),
    "the other's name as a salt": Case({}, {"cache_salt": "alice"}),
    "one in a domain": Case({}, {}, bob=SHARED),
    "one in a domain of the other's name": Case({}, {}, bob='cache_domain = "alice"'),
    "two domains": Case({}, {}, 0, SHARED, 'cache_domain = "finance"'),
    "a common domain": Case({}, {}, 32, SHARED, SHARED),
    "a common domain and salt": Case({"cache_salt": "a"}, {"cache_salt": "a"}, 32, SHARED, SHARED),
    "a common domain, one salted": Case({"cache_salt": "a"}, {}, 0, SHARED, SHARED),
    "a common domain, two salts": Case({"cache_salt": "a"}, {"cache_salt": "b"}, 0, SHARED, SHARED),
}


class Seen(NamedTuple):
    """What bob can see of his request, and what the engine did for it."""

    step_tokens: list[int]
    at: list[float]
    """When each event came, from when he asked."""
    cached: int


async def seen_by_bob(case: Case, *, alice_asks: bool, replicas: int) -> Seen:
    settings = config(**_tables(case)).replace('stall = "30s"', f'stall = "30s"\nreplicas = {replicas}', 1)
    async with world({"small": SURE}, settings=settings) as here:
        for _ in range(3 if alice_asks else 0):
            await here.ask("small", prompt=LONG, api_key=ALICE.raw, **case.first)
            await here.service.assert_clean()
        steps: list[int] = []
        for title in here.service.titles:
            here.service.on_step[title] = lambda _, batch: steps.append(len(batch.token_ids))
        began, at, ended = trio.current_time(), [], []
        response = await here.open("small", prompt=LONG, api_key=BOB.raw, **case.second)
        while events := await response.next_events():
            at += [round(trio.current_time() - began, 6)] * len(events)
            ended = events
        response.close()
        return Seen(steps, at, ended[-1].usage.cached_tokens)


def _tables(case: Case) -> dict[str, str]:
    name, _, domain = case.alice.partition(" = ")
    return {"bob": f"weight = 1_000\n{case.bob}", **({name: domain} if name else {})}


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("name", CASES)
async def test_what_another_tenant_has_asked_changes_no_step_no_time_and_no_count(autojump_clock, name, replicas):
    case = CASES[name]
    after = await seen_by_bob(case, alice_asks=True, replicas=replicas)
    alone = await seen_by_bob(case, alice_asks=False, replicas=replicas)
    assert (alone.cached, after.cached) == (0, case.found)
    assert sum(alone.step_tokens) - sum(after.step_tokens) == case.found
    assert (after == alone) is (case.found == 0)
