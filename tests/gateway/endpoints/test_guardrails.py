"""Guardrails before a whole service: what is judged, who pays, and what the client of a refused request reads."""

import json
from typing import Any

import msgspec
import pytest
import structlog
import trio

from actors.api.errors import Refusal
from actors.api.request import OfBatch
from engine.errors import EngineError
from engine.scheduling.batch import SampleRow
from policies.judging.judgement import judged as judgement
from policies.judging.question import predicate
from tests.actors.fakes import Stage, says, stage
from tests.gateway.endpoints.test_refusal_log import KEY, SETTINGS
from tests.gateway.endpoints.vectors.test_decisions import weighed
from tests.gateway.endpoints.vectors.test_scoring import CONFIGURED, ENCODERS, TOKENIZER, tokens
from tests.gateway.harness import Client, Response, gateway
from tests.media import PNG, data_url

SHORT = """
[guardrails.short]
model = "labels"
labels = ["no", "yes"]
threshold = 0.2
message = "Write more than four words."
"""
TEXT = "The ship is old."
CHAT: dict[str, Any] = {"model": "small", "max_tokens": 8, "messages": [{"role": "user", "content": "Hi"}]}
LONG = "a text of many more words than that one"


def chat(text: str) -> dict[str, Any]:
    system = {"role": "system", "content": "be kind"}
    return {**CHAT, "messages": [system, {"role": "user", "content": text}]}


async def post(client: Client, path: str, body: dict[str, Any]) -> Response:
    return await client.request(path, body, headers=f"Authorization: Bearer {KEY.raw}\r\n")


def guarded(settings: str = CONFIGURED, tables: str = SHORT):
    return stage({"small": says("ok", prompt=1)}, settings=f"{settings}{tables}", encoders=ENCODERS, clean=False)


ADDRESSES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", chat("Hi")),
    ("/v1/chat/completions", {**chat("Hi"), "stream": True}),
    ("/v1/completions", {"model": "small", "prompt": "Hi", "max_tokens": 8}),
    ("/v1/messages", CHAT),
    ("/v1/responses", {"model": "small", "input": "Hi", "store": False}),
]


def steps(service: Stage, name: str) -> int:
    return sum(runner.steps for runner in service.runners[name])


@pytest.mark.parametrize(("path", "body"), ADDRESSES)
async def test_what_a_guardrail_holds_is_refused_before_work(path: str, body: dict[str, Any]) -> None:
    async with guarded() as service, gateway(service.service) as running:
        with structlog.testing.capture_logs() as logs:
            refused = await post(await running.connect(), path, body)
        assert refused.status == 400, refused.body
        error = refused.json["error"]
        assert error["message"] == "Write more than four words."
        assert path == "/v1/messages" or error["code"] == "guardrail_refused"
        assert steps(service, "small") == 0
        (row,) = service.rows().values()
        assert (row["tenant"], row["model"]) == ("acme", "labels")
        held = [each for each in logs if each["event"] == "guardrail_held"]
        assert [(each["guardrail"], each["action"]) for each in held] == [("short", "refuse")]
        assert "Hi" not in str(logs)


async def test_other_texts_and_other_requests_are_served() -> None:
    async with guarded() as service, gateway(service.service) as running:
        client = await running.connect()
        assert (await post(client, "/v1/chat/completions", chat(LONG))).status == 200
        assert (await post(client, "/v1/embeddings", {"model": "mini", "input": "Hi"})).status == 200
        assert (await post(client, "/classify", {"model": "labels", "input": "Hi"})).status == 200
        assert (await post(client, "/tokenize", {"model": "small", "prompt": "Hi"})).status == 200
        assert service.quota_use("acme").minute_requests == 4


async def test_only_the_models_that_are_named_are_guarded() -> None:
    async with guarded(tables=f'{SHORT}guards = ["larg*"]\n') as service, gateway(service.service) as running:
        client = await running.connect()
        assert (await post(client, "/v1/chat/completions", CHAT)).status == 200
        assert (await post(client, "/v1/chat/completions", {**CHAT, "model": "large"})).status == 400


async def test_one_that_logs_lets_the_request_pass() -> None:
    async with guarded(tables=f'{SHORT}action = "log"\n') as service, gateway(service.service) as running:
        with structlog.testing.capture_logs() as logs:
            answer = await post(await running.connect(), "/v1/chat/completions", CHAT)
        assert answer.status == 200
        assert [each["action"] for each in logs if each["event"] == "guardrail_held"] == ["log"]


@pytest.mark.parametrize("more", [-1e-6, 1e-6])
async def test_a_predicate_is_asked_of_a_model_of_text(more: float) -> None:
    """The threshold is just below or just above what the model says."""
    share = judgement(weighed(predicate("Is it old?"))[1], 200.0).probabilities[0]
    assert 0.01 < share < 0.99
    table = f'[guardrails.old]\nmodel = "large"\npredicate = "Is it old?"\nthreshold = {share * (1 + more)!r}\n'
    table += "[decisions.large]\ntemperature = 200.0\n"
    async with guarded(SETTINGS, table) as service, gateway(service.service) as running:
        answer = await post(await running.connect(), "/v1/chat/completions", chat(TEXT))
        assert answer.status == (400 if more < 0 else 200), answer.body


IMAGE = [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": data_url(PNG)}}]
REFUSED: list[tuple[str, str, dict[str, Any], str]] = [
    ("token ids", SHORT, {"model": "small", "prompt": [5, 6], "max_tokens": 8}, "guardrail_needs_text"),
    ("an image", SHORT, {**CHAT, "messages": [{"role": "user", "content": IMAGE}]}, "guardrail_needs_text"),
    (
        "too long for the classifier",
        SHORT,
        {"model": "small", "prompt": "word " * 70, "max_tokens": 8},
        "guardrail_failed",
    ),
    ("no such label", SHORT.replace('"yes"', '"maybe"'), {"model": "small", "prompt": LONG}, "guardrail_failed"),
    ("no classifier", SHORT.replace('"labels"', '"small"'), {"model": "small", "prompt": LONG}, "guardrail_failed"),
    ("unknown model", SHORT, {"model": "smal", "prompt": "Hi"}, "model_not_found"),
]


@pytest.mark.parametrize(("table", "body", "code"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_what_cannot_be_judged_is_not_served(table: str, body: dict[str, Any], code: str) -> None:
    async with guarded(tables=table) as service, gateway(service.service) as running:
        path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
        refused = await post(await running.connect(), path, body)
        assert refused.error["code"] == code, refused.body
        assert steps(service, "small") == 0


@pytest.mark.parametrize("text", ["Hi", LONG])
async def test_a_request_of_a_batch_is_judged_without_its_key(text: str) -> None:
    async with guarded() as service:
        request = service.request(text=text)
        request = msgspec.structs.replace(request, batch=OfBatch("batch-1", "acme"))
        if text == LONG:
            assert await service.read(await service.service.open(request))
        else:
            with pytest.raises(Refusal) as refused:
                await service.service.open(request)
            assert refused.value.body.code == "guardrail_refused"
        assert {row["tenant"] for row in service.rows().values()} == {"acme"}


WRITTEN = "a badly written answer"
ANSWERS = (
    SHORT.replace("threshold = 0.2", f"threshold = {0.999 / (1 + tokens(WRITTEN))}").replace(
        "Write more than four words.", "It has no answer to that."
    )
    + 'reads = "answer"\n'
)


def answering(tables: str = ANSWERS, said: str = WRITTEN, **more: Any):
    ids = [*TOKENIZER.encode(said), *TOKENIZER.eos_ids]

    def script(sample: SampleRow) -> tuple[int, float]:
        place = sample.position - len(sample.prompt_token_ids)
        return ids[min(place, len(ids) - 1)], 9.0

    return stage({"small": script}, settings=f"{CONFIGURED}{tables}", encoders=ENCODERS, **more)


def _text_of(answer: Response) -> str:
    """What the client reads, of a stream, too."""
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return answer.body.decode()
    events = [json.loads(line[6:]) for line in answer.body.decode().splitlines() if line.startswith("data: {")]
    return "".join([choice["delta"].get("content") or "" for event in events for choice in event.get("choices", [])])


def longer(body: dict[str, Any]) -> dict[str, Any]:
    return body | ({"max_tokens": 40} if "max_tokens" in body else {})


@pytest.mark.parametrize(("path", "body"), ADDRESSES)
async def test_an_answer_that_a_guardrail_refuses_is_not_sent_and_is_paid(path: str, body: dict[str, Any]) -> None:
    async with answering() as service, gateway(service.service) as running:
        refused = await post(await running.connect(), path, longer(body))
        assert refused.status == 400, refused.body
        assert refused.json["error"]["message"] == "It has no answer to that."
        assert b"badly" not in refused.body
        await service.assert_clean()
        rows = {row["model"]: row for row in service.rows().values()}
        assert set(rows) == {"small", "labels"}
        row = rows["small"]
        assert (row["outcome"], row["why"], row["completion_tokens"]) == ("failed", "guardrail_refused", 0)
        assert row["discarded_tokens"] >= tokens(WRITTEN)
        assert row["cost"] > 0


@pytest.mark.parametrize(("path", "body"), ADDRESSES)
@pytest.mark.parametrize("action", ["refuse", "log"])
async def test_an_answer_that_passes_is_sent_whole(path: str, body: dict[str, Any], action: str) -> None:
    said = f"{WRITTEN}, and more" if action == "refuse" else WRITTEN
    async with answering(f'{ANSWERS}action = "{action}"\n', said) as service, gateway(service.service) as running:
        with structlog.testing.capture_logs() as logs:
            answer = await post(await running.connect(), path, longer(body))
        assert answer.status == 200, answer.body
        assert said in _text_of(answer)
        held = [each["guardrail"] for each in logs if each["event"] == "guardrail_held"]
        assert held == ([] if action == "refuse" else ["short"])
        assert sum(row["model"] == "labels" for row in service.rows().values()) == 1


async def test_nothing_of_a_streamed_answer_is_sent_before_it_is_judged() -> None:
    async with answering() as service, gateway(service.service) as running:
        service.worker("labels").hang = True
        client, answers = await running.connect(), []

        async def ask() -> None:
            answers.append(await post(client, "/v1/chat/completions", longer({**CHAT, "stream": True})))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            while not any(row["model"] == "labels" for row in service.rows().values()):  # noqa: ASYNC110
                await trio.sleep(0.01)
            assert not answers
            service.worker("labels").hang = False
            service.worker("labels").send(None)  # anything wakes it
        assert answers[0].status == 400


@pytest.mark.parametrize("action", ["refuse", "log"])
async def test_an_answer_that_cannot_be_judged(action: str) -> None:
    tables = ANSWERS.replace('"yes"', '"maybe"') + f'action = "{action}"\n'
    async with answering(tables) as service, gateway(service.service) as running:
        with structlog.testing.capture_logs() as logs:
            answer = await post(await running.connect(), "/v1/chat/completions", longer(CHAT))
        if action == "refuse":
            assert (answer.status, answer.error["code"]) == (400, "guardrail_failed")
        else:
            assert answer.status == 200
            assert any(each["event"] == "guardrail_failed" for each in logs)


async def test_an_unknown_key_is_refused_before_a_guardrail_works() -> None:
    async with guarded() as service, gateway(service.service) as running:
        refused = await (await running.connect()).request("/v1/chat/completions", CHAT)
        assert refused.status == 401
        assert steps(service, "labels") == 0


async def test_a_text_that_the_classifier_does_not_survive_is_not_served() -> None:
    async with guarded() as service, gateway(service.service) as running:

        def fail(*_: object) -> None:
            raise EngineError("broken", "it broke")

        service.on_step["labels"] = fail
        refused = await post(await running.connect(), "/v1/chat/completions", CHAT)
        assert (refused.status, refused.error["code"]) == (400, "guardrail_failed")
        assert steps(service, "small") == 0


async def test_a_key_needs_no_permission_for_the_guardrails_model() -> None:
    line = f'hash = "{KEY.settings.hash}"\n'
    assert line in CONFIGURED
    limited = CONFIGURED.replace(line, f'{line}models = ["small"]\nendpoints = ["chat"]\n')
    async with guarded(limited) as service, gateway(service.service) as running:
        client = await running.connect()
        assert (await post(client, "/v1/chat/completions", chat(LONG))).status == 200
        assert (await post(client, "/v1/chat/completions", CHAT)).error["code"] == "guardrail_refused"
        assert (await post(client, "/classify", {"model": "labels", "input": "Hi"})).status == 403
