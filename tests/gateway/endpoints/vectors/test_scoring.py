"""`/rerank`, `/score` and `/classify` before a whole service: who answers, what it costs, what is refused."""

from typing import Any

import numpy as np
import pytest
import trio

from engine.model.vectors import EmbeddingSizes
from engine.testing.fake_encoder import FakeEncoder
from tests.actors.fakes import stage
from tests.engine.tiny_tokenizers import byte_level_tokenizer
from tests.gateway.endpoints.test_refusal_log import KEY, SETTINGS
from tests.gateway.endpoints.test_token_count import GATE
from tests.gateway.harness import Client, Response, gateway

TOKENIZER = byte_level_tokenizer()
MODELS = ("judge", "labels", "mixed")
CLASSIFIERS = "".join(
    f'[[routes]]\nname = "{name}"\nwhen = {{ model = ["{name}"] }}\nuse = {{ ladder = "{name}" }}\n[models.{name}]\n'
    for name in MODELS
)
ENGINES = """
[engines.judge]
model = "judge"
[engines.labels]
model = "labels"
[[ladders.judge]]
to = "judge"
[[ladders.labels]]
to = "labels"
[[ladders.mixed]]
to = "mini"
[[ladders.mixed]]
to = "judge"
"""
CONFIGURED = SETTINGS.replace(GATE, f"{ENGINES}{CLASSIFIERS}{GATE}")
ENCODERS = {
    "mini": EmbeddingSizes(8),
    "judge": EmbeddingSizes(1, labels=("LABEL_0",)),
    "labels": EmbeddingSizes(3, labels=("no", "yes", "so")),
}
DOCUMENTS = ["a longer one", {"text": "b"}, "short"]


def tokens(text: str) -> int:
    return len(TOKENIZER.encode(text))


def judged(text: str) -> float:
    return float(np.float32(1 / (1 + tokens(text))))


def cosine(first: str, second: str) -> float:
    a, b = FakeEncoder().embed([tuple(TOKENIZER.encode(first)), tuple(TOKENIZER.encode(second))])
    return float(a @ b)


async def ask(client: Client, path: str, **fields: object) -> Response:
    return await client.request(path, fields, headers=f"Authorization: Bearer {KEY.raw}\r\n")


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
async def test_documents_by_a_classifier_are_charged_as_their_tokens(path: str) -> None:
    async with (
        stage({}, settings=CONFIGURED, encoders=ENCODERS) as service,
        gateway(service.service) as running,
    ):
        client = await running.connect()
        answer = await ask(client, path, model="judge", query="which?", documents=DOCUMENTS, top_n=2)
        assert answer.status == 200, answer.body
        expected = [(1, judged("b")), (2, judged("short"))]
        assert [(each["index"], each["relevance_score"]) for each in answer.json["results"]] == expected
        used = sum(tokens("which?") + tokens(text) for text in ("a longer one", "b", "short"))
        assert answer.json["usage"]["total_tokens"] == used
        assert answer.headers["x-penstock-rung"] == answer.json["penstock"]["rung"] == "judge"
        (row,) = service.rows().values()
        assert row["prompt_tokens"] == used
        assert service.quota_use("acme").minute_requests == 1


SCORED: list[tuple[str, dict[str, Any], list[Any]]] = [
    ("/score", {"model": "judge", "text_1": "q", "text_2": ["b", "short"]}, [judged("b"), judged("short")]),
    ("/v1/score", {"model": "judge", "text_1": ["q", "r"], "text_2": ["b", "b"]}, [judged("b"), judged("b")]),
    ("/score", {"model": "mixed", "text_1": "q", "text_2": "b"}, [judged("b")]),
    ("/score", {"model": "mini", "text_1": "q", "text_2": ["q", "short"]}, [1.0, cosine("q", "short")]),
    ("/score", {"model": "mini", "text_1": ["q", "b"], "text_2": ["b", "b"]}, [cosine("q", "b"), 1.0]),
]


@pytest.mark.parametrize(("path", "body", "expected"), SCORED)
async def test_scores(path: str, body: dict[str, Any], expected: list[float]) -> None:
    async with (
        stage({}, settings=CONFIGURED, encoders=ENCODERS) as service,
        gateway(service.service) as running,
    ):
        answer = await ask(await running.connect(), path, **body)
        assert answer.status == 200, answer.body
        assert [each["score"] for each in answer.json["data"]] == pytest.approx(expected, abs=1e-6)


async def test_labels_of_texts() -> None:
    async with (
        stage({}, settings=CONFIGURED, encoders=ENCODERS) as service,
        gateway(service.service) as running,
    ):
        answer = await ask(await running.connect(), "/classify", model="labels", input=["b", "short"])
        found = [(each["label"], each["num_classes"], each["probs"][0]) for each in answer.json["data"]]
        assert found == [("no", 3, judged("b")), ("no", 3, judged("short"))]


LONG = "word " * 40
REFUSED: list[tuple[str, dict[str, Any], str, str | None]] = [
    ("/rerank", {"model": "small", "query": "q", "documents": ["a"]}, "model_makes_text", "model"),
    ("/rerank", {"model": "labels", "query": "q", "documents": ["a"]}, "model_has_labels", "model"),
    ("/score", {"model": "labels", "text_1": "q", "text_2": "a"}, "model_has_labels", "model"),
    ("/classify", {"model": "mini", "input": "a"}, "model_makes_embeddings", "model"),
    ("/classify", {"model": "small", "input": "a"}, "model_makes_text", "model"),
    ("/v1/embeddings", {"model": "mini", "input": "a", "prompt_name": "query"}, "prompt_name_unknown", "prompt_name"),
    ("/v1/embeddings", {"model": "mini", "input": [[5]], "prompt_name": "query"}, "invalid_value", "prompt_name"),
    ("/v1/embeddings", {"model": "judge", "input": "a"}, "model_makes_scores", "model"),
    ("/v1/completions", {"model": "judge", "prompt": "a"}, "model_makes_scores", "model"),
    ("/rerank", {"model": "judge", "query": "q", "documents": ["a", LONG]}, "context_length_exceeded", "documents"),
    ("/rerank", {"model": "judge", "query": "q", "documents": []}, "invalid_value", "documents"),
    ("/score", {"model": "none", "text_1": "q", "text_2": "a"}, "model_not_found", "model"),
]


@pytest.mark.parametrize(("path", "body", "code", "param"), REFUSED)
async def test_what_is_refused(path: str, body: dict[str, Any], code: str, param: str) -> None:
    async with (
        stage({}, settings=CONFIGURED, encoders=ENCODERS, clean=False) as service,
        gateway(service.service) as running,
    ):
        refused = await ask(await running.connect(), path, **body)
        assert (refused.error["code"], refused.error["param"]) == (code, param), refused.body


async def test_long_documents_are_cut_on_request() -> None:
    async with (
        stage({}, settings=CONFIGURED, encoders=ENCODERS) as service,
        gateway(service.service) as running,
    ):
        client = await running.connect()
        for model in ("judge", "mini"):
            fields = {"model": model, "query": "q", "documents": ["b", LONG], "max_tokens_per_doc": 5}
            answer = await ask(client, "/rerank", **fields)
            assert answer.json["usage"]["total_tokens"] == tokens("b") + 5 + (2 if model == "judge" else 1) * tokens(
                "q"
            )


async def test_not_while_the_server_ends() -> None:
    async with (
        stage({}, settings=CONFIGURED, encoders=ENCODERS, clean=False) as service,
        gateway(service.service) as running,
    ):
        client = await running.connect()
        await service.service.drain(trio.current_time())
        refused = await ask(client, "/classify", model="labels", input="a")
        assert (refused.status, refused.error["code"]) == (503, "shutting_down")


async def test_the_refusal_of_a_model_of_text_is_of_what_was_asked() -> None:
    async with (
        stage({}, settings=CONFIGURED, encoders=ENCODERS, clean=False) as service,
        gateway(service.service) as running,
    ):
        client = await running.connect()
        for path, fields, wanted in (
            ("/rerank", {"query": "q", "documents": ["a"]}, "not scores of two texts. Choose a reranker"),
            ("/classify", {"input": "a"}, "not scores. Choose a classifier"),
            ("/v1/embeddings", {"input": "a"}, "not embeddings. Choose an embedding model"),
        ):
            refused = await ask(client, path, model="small", **fields)
            assert wanted in refused.error["message"]
