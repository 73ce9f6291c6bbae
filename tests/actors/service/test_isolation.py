"""What one tenant must not learn of another: prompts of others are not in its prefix cache, on no way to an engine."""

import pytest

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
