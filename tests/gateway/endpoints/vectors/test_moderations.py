"""`/v1/moderations` before a whole service: a classifier's labels as OpenAI's categories."""

from typing import Any

import pytest

from engine.model.vectors import EmbeddingSizes
from gateway.openai.responses.moderation import CATEGORIES
from tests.actors.fakes import stage
from tests.gateway.endpoints.test_refusal_log import KEY, SETTINGS
from tests.gateway.endpoints.vectors.test_scoring import CONFIGURED, ENCODERS, judged, tokens
from tests.gateway.harness import Client, Response, gateway

TABLES = """
[moderations.strict]
model = "labels"
[moderations.strict.categories.hate]
labels = ["yes", "so"]
threshold = 0.1
[moderations.strict.categories."self-harm/intent"]
labels = ["so"]
[moderations.strict.categories.spam]
labels = ["no"]
threshold = 0.9
[moderations.text]
model = "small"
categories.hate.labels = ["x"]
[moderations.wrong]
model = "labels"
categories.hate.labels = ["maybe"]
"""
MODERATED = f"{CONFIGURED}{TABLES}"


async def ask(client: Client, **fields: object) -> Response:
    return await client.request("/v1/moderations", fields, headers=f"Authorization: Bearer {KEY.raw}\r\n")


async def test_labels_become_categories() -> None:
    async with stage({}, settings=MODERATED, encoders=ENCODERS) as service, gateway(service.service) as running:
        answer = await ask(await running.connect(), input=["b", "something longer than that"])
        assert answer.status == 200, answer.body
        first, second = answer.json["results"]
        score = judged("b")
        assert (answer.json["model"], first["flagged"], second["flagged"]) == ("strict", True, False)
        assert first["category_scores"]["hate"] == score / 2
        assert first["category_scores"]["self-harm/intent"] == score / 4
        assert first["category_scores"]["spam"] == score
        assert [name for name, flagged in first["categories"].items() if flagged] == ["hate"]
        assert set(first["categories"]) == {*CATEGORIES, "spam"} == set(first["category_scores"])
        applied = first["category_applied_input_types"]
        assert (applied["hate"], applied["violence"]) == (["text"], [])
        used = tokens("b") + tokens("something longer than that")
        assert answer.json["usage"]["prompt_tokens"] == used
        assert answer.headers["x-penstock-rung"] == "labels"
        (row,) = service.rows().values()
        assert row["prompt_tokens"] == used


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"input": "a", "model": "strikt"}, 404, "model_not_found"),
        ({"input": "a", "model": "text"}, 400, "model_makes_text"),
        ({"input": "a", "model": "wrong"}, 500, "moderation_misconfigured"),
        ({"input": [{"type": "image_url", "image_url": {"url": "x"}}]}, 400, "unsupported_parameter"),
        ({}, 400, "missing_field"),
    ],
)
async def test_what_is_refused(fields: dict[str, Any], status: int, code: str) -> None:
    async with (
        stage({}, settings=MODERATED, encoders=ENCODERS, clean=False) as service,
        gateway(service.service) as running,
    ):
        refused = await ask(await running.connect(), **fields)
        assert (refused.status, refused.error["code"]) == (status, code), refused.body
        assert not service.rows()


async def test_without_a_configuration_it_says_what_is_missing() -> None:
    async with (
        stage({}, settings=SETTINGS, encoders={"mini": EmbeddingSizes(8)}, clean=False) as service,
        gateway(service.service) as running,
    ):
        refused = await ask(await running.connect(), input="a")
        assert (refused.status, refused.error["code"]) == (404, "moderation_not_configured")
        assert "[moderations.NAME]" in refused.error["message"]
