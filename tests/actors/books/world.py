"""A service whose every book is kept: prices, quotas and a budget for alice; bob is there to stand in her way."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from actors.api.errors import Refusal
from actors.api.request import TokenPrompt
from actors.api.response import Done, Failed
from actors.request.response_stream import ResponseStream
from engine.model.vectors import EmbeddingSizes
from policies.admission.keys import RANDOM_BYTES, new_key
from tests.actors.configuration import STOPS
from tests.actors.fakes import PROMPT, Answer, Stage, says, stage
from tests.actors.upstream.network import Network, Server
from tests.actors.upstream.network import says as upstream_says

ALICE = new_key("alice", bytes(range(RANDOM_BYTES)))
BOB = new_key("bob", bytes(range(1, RANDOM_BYTES + 1)))
ALICE_MAY = {
    "tokens": "{ per_minute = 100_000, per_day = 200_000 }",
    "requests_per_minute": "100",
    "concurrent": "50",
    "budget": '{ amount = 1_000_000, per = "month" }',
}
# One unit of money for a token of the small model's prompt, and so on.
PRICES = """
[prices]
small = { input = 1_000_000, output = 2_000_000, cached_input = 250_000 }
large = { input = 10_000_000, output = 20_000_000, cached_input = 2_500_000 }
cloud = { input = 100_000_000, output = 200_000_000 }
encoder = { input = 3_000_000, output = 0 }
"""
ROUTES = """
[models.checked]
[models.goes-on]
[models.cloud]
[models.encoder]
[models.static]
[[routes]]
name = "checked"
when = { model = ["checked"] }
use = { cascade = "checked" }
midstream = "error"
[[routes]]
name = "goes-on"
when = { model = ["goes-on"] }
use = { ladder = "small-first" }
[[routes]]
name = "cloud"
when = { model = ["cloud"] }
use = { ladder = "cloud-first" }
midstream = "error"
[[routes]]
name = "encoder"
when = { model = ["encoder"] }
use = { ladder = "encoder-only" }
[[routes]]
name = "static"
when = { model = ["static"] }
use = { ladder = "static" }
"""
RUNGS = """
[cascades.checked]
stages = ["small", "large"]
emit = { mode = "verified", draft_tokens = 64 }
on_failure = "large-only"
[upstreams.cloud]
urls = ["http://a/v1"]
model = "llama"
context = 512
[[ladders.cloud-first]]
to = "cloud"
retries = 1
[[ladders.cloud-first]]
to = "large"
mark = "fallback"
[engines.encoder]
model = "encoder"
stall = "30s"
[[ladders.encoder-only]]
to = "encoder"
[[ladders.static]]
to = "large"
[[ladders.static]]
answer = "Nobody is here."
mark = "sorry"
"""
TEXT = "okay then"
MADE = 6
"""Tokens of TEXT, with the one that ends it."""
LONG = tuple(range(5, 45))
"""A prompt of 40 tokens: two whole blocks of 16 and a half one."""


def config(*, bob: str = "weight = 1_000", **alice: str) -> str:
    """With other limits for alice."""
    may = "\n".join(f"{name} = {value}" for name, value in {**ALICE_MAY, **alice}.items())
    keys = "".join(
        f'[[keys]]\nid = "{key.settings.id}"\ntenant = "{key.settings.tenant}"\nhash = "{key.settings.hash}"\n'
        for key in (ALICE, BOB)
    )
    catch_all = STOPS.index('[[routes]]\nmidstream = "error"\nname = "gate"')
    routes = STOPS[:catch_all] + ROUTES + STOPS[catch_all:]
    return f"{routes}{RUNGS}{PRICES}{keys}[tenants.alice]\n{may}\n[tenants.bob]\n{bob}\n"


@dataclass(frozen=True)
class Books:
    """What one tenant has in every book."""

    minute_tokens: int = 0
    day_tokens: int = 0
    minute_requests: int = 0
    spent_tokens: int = 0
    requests: int = 0
    money: float = 0.0
    held_requests: int = 0
    held_tokens: int = 0
    held_money: float = 0.0


class World:
    """The service, seen from its clients and its ledger."""

    def __init__(self, service: Stage, network: Network) -> None:
        self.service = service
        self.network = network
        self.numbers: list[str] = []
        """The ids of alice's requests."""

    async def open(self, model: str = "small", *, prompt: tuple[int, ...] = PROMPT, **options: Any) -> ResponseStream:
        given = {"prompts": (TokenPrompt(prompt),), "api_key": ALICE.raw, "max_tokens": 10, **options}
        request = self.service.request(model, **given)
        if given["api_key"] != BOB.raw:
            self.numbers.append(request.request_id)
        return await self.service.service.open(request)

    async def ask(self, model: str = "small", **options: Any) -> Answer:
        answer = Answer()
        try:
            response = await self.open(model, **options)
        except Refusal as refusal:
            answer.refusal = refusal.with_traceback(None)
            return answer
        return await self.service.read(response, answer)

    async def told(self, model: str = "small", **options: Any) -> "Told":
        """What the client hears of its request in the end."""
        return told(await self.ask(model, **options))

    @asynccontextmanager
    async def bob_fills(self, model: str, *, waiting: int = 0) -> AsyncIterator[None]:
        """As many of bob's requests as run at once, one ahead, and so many in the queue.

        By his weight he may fill it: alice takes none of his places.
        """
        async with trio.open_nursery() as nursery:
            for _ in range(5 + waiting):
                response = await self.open(model, api_key=BOB.raw, ignore_eos=True, max_tokens=300)
                nursery.start_soon(self.service.read, response)
                await trio.sleep(0.01)
            await trio.sleep(0.5)
            yield
            nursery.cancel_scope.cancel()

    def books(self, tenant: str = "alice") -> Books:
        quota, money = self.service.quota_use(tenant), self.service.service.statistics().budgets.get(tenant)
        return Books(
            minute_tokens=quota.minute_tokens,
            day_tokens=quota.day_tokens,
            minute_requests=quota.minute_requests,
            spent_tokens=quota.spent_total,
            requests=quota.requests_total,
            money=money.spent if money is not None else 0.0,
            held_requests=quota.in_flight,
            held_tokens=quota.reserved_tokens,
            held_money=money.reserved if money is not None else 0.0,
        )


Told = str | tuple[int, int, int]
"""Usage: tokens of the prompt, of the answer, and those of the prompt that were cached. Or an error's code, with usage
behind it if the answer broke off. Or "left"."""


def told(answer: Answer) -> Told:
    if answer.refusal is not None:
        assert "mailbox" not in answer.refusal.body.message
        return answer.refusal.body.code
    end = answer.end
    if isinstance(end, Failed):
        return f"{end.error.code} {end.usage.prompt_tokens} {end.usage.completion_tokens}"
    assert isinstance(end, Done)
    return end.usage.prompt_tokens, end.usage.completion_tokens, end.usage.cached_tokens


@asynccontextmanager
async def world(
    scripts: dict[str, Any] | None = None,
    *,
    server: Server | None = None,
    settings: str | None = None,
    clean: bool = True,
    **workers: Any,
) -> AsyncIterator[World]:
    """Afterwards nothing may be left in any book (`clean`)."""
    async with trio.open_nursery() as nursery:
        network = Network(nursery, {"a": server or upstream_says("hi")})
        async with stage(
            {"small": says(TEXT), "large": says(TEXT), **(scripts or {})},
            settings=settings or config(),
            network=network.connect,
            encoders={"encoder": EmbeddingSizes(8)},
            clean=clean,
            **workers,
        ) as service:
            yield World(service, network)
        nursery.cancel_scope.cancel()
