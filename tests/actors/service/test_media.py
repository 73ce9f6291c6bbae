"""Images, sounds and files through every actor: which rung gets them, what they count for, and who sees them."""

from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from actors.api.content import MediaPart, TextPart, media_digest
from actors.api.request import ChatMessage, ChatPrompt
from tests.actors.fakes import Answer, says
from tests.actors.upstream.network import Asked, Server
from tests.actors.upstream.network import says as upstream_says
from tests.actors.upstream.test_upstream_actor import stage as upstream_stage
from tests.media import PNG, encoded

CANARY = "https://a.example/canary.png"
CONFIG = """
schema = 1
[ledger]
path = "x.sqlite3"
[media]
image_tokens = 50
max_parts = 3
[tenants.anonymous]
tokens = { per_minute = 10_000 }
[engines.small]
model = "small"
[upstreams.blind]
urls = ["http://blind/v1"]
[upstreams.first]
urls = ["http://first/v1"]
supports = ["vision", "continue"]
[upstreams.cloud]
urls = ["http://cloud/v1"]
supports = ["vision", "files", "continue"]
[models.all]
[models.local]
[models.steps]
[[routes]]
name = "local"
when = { model = ["local"] }
use = { ladder = "local" }
[[routes]]
name = "steps"
when = { model = ["steps"] }
use = { cascade = "upward" }
[[routes]]
name = "pictures"
when = { has = ["image"] }
use = { ladder = "all" }
[[routes]]
name = "rest"
use = { ladder = "all" }
[cascades.upward]
stages = ["small", "cloud"]
defer = { threshold = 1.0 }
on_failure = "all"
[[ladders.local]]
to = "small"
[[ladders.all]]
to = "small"
[[ladders.all]]
to = "blind"
[[ladders.all]]
to = "first"
[[ladders.all]]
to = "cloud"
"""


def image(content: bytes = PNG, **more: Any) -> MediaPart:
    given = {"data": encoded(content), "media_type": "image/png", "size": len(content), **more}
    where = "messages[0].content[1].image_url.url"
    return MediaPart(medium="image", where=where, digest=media_digest(content), **given)


def shown(*parts: MediaPart) -> tuple[ChatPrompt, ...]:
    return (ChatPrompt((ChatMessage("user", "Look", parts=(TextPart("Look"), *parts)),)),)


@asynccontextmanager
async def stage(servers: dict[str, Server], **more: Any):
    async with upstream_stage(servers, {"small": says("text")}, text=CONFIG, **more) as (service, network):
        yield service, network


def rungs(answer: Answer) -> list[str]:
    return [each.rung for each in answer.end.served.attempts]


SENT = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded(PNG)}"}}


@pytest.mark.parametrize("model", ["all", "steps"])
async def test_the_first_rung_that_takes_it_gets_it(autojump_clock, model: str) -> None:
    async with stage({"first": upstream_says("a cat"), "cloud": upstream_says("a cat")}) as (service, network):
        answer = await service.ask(model, prompts=shown(image()))
        assert answer.text() == "a cat"
        assert rungs(answer) == ["first" if model == "all" else "cloud"]
        assert answer.end.served.route == ("pictures" if model == "all" else "steps")
        assert network.asked[0].body["messages"][0]["content"] == [{"type": "text", "text": "Look"}, SENT]


async def broken(asked: Asked) -> None:
    await asked.say("a ")
    await asked.stream.aclose()


async def dead(asked: Asked) -> None:
    await asked.status(500)


@pytest.mark.parametrize("first", [broken, dead])
async def test_the_next_rung_gets_it_too(autojump_clock, first: Server) -> None:
    async with stage({"first": first, "cloud": upstream_says("cat")}) as (service, network):
        answer = await service.ask("all", prompts=shown(image()))
        assert answer.text() == ("a cat" if first is broken else "cat")
        assert rungs(answer) == ["first", "cloud"]
        assert [SENT in asked.body["messages"][0]["content"] for asked in network.asked] == [True, True]


async def test_engines_alone_are_a_400_that_names_the_field_and_other_models(autojump_clock) -> None:
    async with stage({}) as (service, _):
        answer = await service.ask("local", prompts=shown(image()))
        assert answer.refusal is not None
        body = answer.refusal.body
        assert (body.status, body.code, body.param) == (
            400,
            "media_not_supported",
            "messages[0].content[1].image_url.url",
        )
        assert body.message == "The model 'local' takes no images. These models take them: all, steps."


async def test_bounds_are_checked_before_anything_is_asked(autojump_clock) -> None:
    async with stage({}) as (service, network):
        answer = await service.ask("all", prompts=shown(*[image()] * 4))
        assert answer.refusal is not None
        assert answer.refusal.body.code == "too_many_media"
        assert not network.asked


async def test_an_estimate_is_reserved_and_the_reported_usage_is_charged(autojump_clock) -> None:
    held: list[int] = []

    async def serve(asked: Asked) -> None:
        held.append(service.quota_use().reserved_tokens)
        await asked.say("cat")
        await asked.end(completion=1)

    async with stage({"first": serve}) as (service, _):
        answer = await service.ask("all", prompts=shown(image(), image()), max_tokens=9)
        assert held[0] >= 2 * 50 + 9
        assert held[0] < 2 * 50 + 9 + 20, "the text is short"
        assert answer.end.usage.prompt_tokens == 11, "as the upstream reports it"
        await service.settled()
        assert (service.quota_use().reserved_tokens, service.quota_use().minute_tokens) == (0, 12)


async def test_neither_content_nor_address_is_in_a_log(autojump_clock) -> None:
    async def quoting(asked: Asked) -> None:
        await asked.status(400, body=b'{"error": {"message": "cannot fetch %b"}}' % CANARY.encode())

    with structlog.testing.capture_logs() as logs:
        async with stage({"first": quoting, "cloud": quoting}) as (service, _):
            answer = await service.ask("all", prompts=shown(image(), image(data="", url=CANARY, size=0)))
            assert answer.refusal is not None
            decision = service.service.admin.decision("r1")
    assert any(line["event"] == "upstream_call_ended" for line in logs)
    for seen in (repr(logs), repr(decision)):
        assert CANARY not in seen
        assert encoded(PNG) not in seen
