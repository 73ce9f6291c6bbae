"""`POST /v1/messages/count_tokens`: what is counted, by whose tokenizer, and what it costs: nothing."""

from typing import Any

import structlog
import trio

from tests.actors.fakes import CONFIG, says, stage
from tests.gateway.endpoints.test_refusal_log import FIELDS, KEY, POOR, SETTINGS
from tests.gateway.harness import Client, Response, gateway

PATH = "/v1/messages/count_tokens"
ASK: dict[str, Any] = {"model": "small", "messages": [{"role": "user", "content": "Hello?"}]}
UPSTREAMS = """
[upstreams.far]
urls = ["http://127.0.0.1:9/v1"]
[upstreams.near]
urls = ["http://127.0.0.1:9/v1"]
tokenizer = "small"
[models.far]
[models.near]
[models.either]
[[routes]]
name = "far"
when = { model = ["far"] }
use = { ladder = "far" }
[[routes]]
name = "near"
when = { model = ["near"] }
use = { ladder = "near" }
[[routes]]
name = "either"
when = { model = ["either"] }
use = { ladder = "either" }
[[ladders.far]]
to = "far"
[[ladders.near]]
to = "near"
[[ladders.either]]
to = "far"
[[ladders.either]]
to = "large"
"""
GATE = '[[routes]]\nname = "gate"'


async def count(client: Client, key: str = "", **fields: object) -> Response:
    return await client.request(PATH, {**ASK, **fields}, headers=f"x-api-key: {key}\r\n" if key else "")


async def test_it_is_what_the_answer_says_and_is_not_charged() -> None:
    async with (
        stage({"small": says("ok", prompt=6)}, settings=SETTINGS) as service,
        gateway(service.service) as running,
    ):
        client = await running.connect()
        with structlog.testing.capture_logs() as logs:
            counted = await count(client, KEY.raw)
        (line,) = [each for each in logs if each["event"] == "request_finished"]
        assert line.keys() == FIELDS
        assert (line["path"], line["tenant"], line["model"], line["route"]) == (PATH, "acme", "small", "small")
        assert (line["outcome"], line["why"], line["status"], line["prompt_tokens"]) == ("ok", "counted", 200, 0)
        assert (counted.status, counted.json) == (200, {"input_tokens": 6})
        assert counted.headers["request-id"] == counted.headers["x-request-id"]
        for key in (KEY.raw, POOR.raw):
            # More than the tokens that the poor tenant may use in a minute.
            assert (await count(client, key, system="Be brief.", max_tokens=5)).json == {"input_tokens": 13}
        assert service.rows() == {}
        assert service.quota_use("acme").minute_requests == 0
        answer = await client.request("/v1/messages", {**ASK, "max_tokens": 2}, headers=f"x-api-key: {KEY.raw}\r\n")
        assert answer.json["usage"]["input_tokens"] == 6


async def test_it_is_refused_as_a_message_would_be() -> None:
    async with stage({}, settings=SETTINGS, clean=False) as service, gateway(service.service) as running:
        client = await running.connect()
        for refused, status, kind, code in (
            (await count(client), 401, "authentication_error", "invalid_api_key"),
            (await count(client, KEY.raw, model="none"), 404, "not_found_error", "model_not_found"),
            (await count(client, KEY.raw, messages=[]), 400, "invalid_request_error", "invalid_value"),
            (await count(client, KEY.raw, system="x" * 9000), 400, "invalid_request_error", "context_length_exceeded"),
        ):
            assert (refused.status, refused.error["type"], refused.error["code"]) == (status, kind, code)
        await service.service.drain(trio.current_time())
        refused = await count(client, KEY.raw)
        assert (refused.status, refused.error["code"]) == (503, "shutting_down")


async def test_upstreams_count_only_with_a_tokenizer_here() -> None:
    settings = CONFIG.replace(GATE, f"{UPSTREAMS}\n{GATE}")
    async with stage({}, settings=settings) as service, gateway(service.service) as running:
        client = await running.connect()
        assert (await count(client, model="near")).json == {"input_tokens": 6}
        assert (await count(client, model="either")).json == {"input_tokens": 6}
        refused = await count(client, model="far")
        assert (refused.status, refused.error["code"]) == (400, "tokenizer_unknown")
