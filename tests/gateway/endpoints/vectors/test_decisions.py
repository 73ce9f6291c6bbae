"""`/v1/decisions` before a whole service: what it says, what it costs, and who cannot decide."""

from math import exp
from typing import Any

import numpy as np
import pytest

from engine.messages import Embedding, Weigh
from engine.model.vectors import EmbeddingSizes
from engine.testing.fake_runner import FakeRunner
from policies.judging.judgement import judged as judgement
from policies.judging.question import Question, choice, predicate, score
from tests.actors.fakes import stage
from tests.engine.driving import make_engine
from tests.engine.tiny_tokenizers import byte_level_tokenizer
from tests.gateway.endpoints.test_refusal_log import KEY, SETTINGS
from tests.gateway.endpoints.test_token_count import GATE, UPSTREAMS
from tests.gateway.harness import Client, Response, gateway

CALIBRATED = SETTINGS.replace("[prices]", "[decisions.small]\ntemperature = 4.0\n[prices]", 1)
WITH_UPSTREAMS = SETTINGS.replace(GATE, f"{UPSTREAMS}{GATE}", 1)
TEXT = "The ship is old."
ALIKE = {"type": "choice", "question": "What?", "options": ["the", "the dog"]}
CASES: list[tuple[dict[str, Any], Question]] = [
    ({"type": "predicate", "question": "Is it old?"}, predicate("Is it old?")),
    ({"type": "choice", "question": "What?", "options": ["a ship", "a car"]}, choice("What?", ("a ship", "a car"))),
    ({"type": "score", "question": "How old?", "max": 3}, score("How old?", 1, 3)),
    (ALIKE, choice("What?", ("the", "the dog"))),
]


async def ask(client: Client, **fields: object) -> Response:
    body = {"model": "small", "input": TEXT, "decision": CASES[0][0], **fields}
    return await client.request(
        "/v1/decisions", {name: value for name, value in body.items() if value is not None},
        headers=f"Authorization: Bearer {KEY.raw}\r\n",
    )  # fmt: skip


def judged_as(question: Question, about: str, temperature: float) -> float:
    """How probable the fake model holds the question's first outcome to be."""
    return judgement(weighed(question, about)[1], temperature).probabilities[0]


def weighed(question: Question, about: str = TEXT) -> tuple[int, list[float]]:
    """The prompt's tokens, and what the fake model says to the question, asked without a service."""
    tokenizer = byte_level_tokenizer()
    prompt = tuple(tokenizer.encode(question.prompt(about), add_special_tokens=False))
    answers = tuple([tuple(tokenizer.encode_continuation(each)) for each in question.outcomes])
    engine = make_engine(FakeRunner())
    engine.accept(Weigh(sequence_id=1, prompt_token_ids=prompt, answers=answers))
    while True:
        for output in engine.step().outputs:
            assert isinstance(output, Embedding)
            return len(prompt), np.frombuffer(output.vector, "<f4").tolist()


@pytest.mark.parametrize(("wanted", "question"), CASES, ids=["predicate", "choice", "score", "one begins the other"])
async def test_probabilities_are_the_engines(wanted: dict[str, Any], question: Question) -> None:
    tokens, logprobs = weighed(question)
    async with stage({}, settings=SETTINGS) as service, gateway(service.service) as running:
        answer = await ask(await running.connect(), decision=wanted)
        assert answer.status == 200, answer.body
        made = answer.json
        assert [each["outcome"] for each in made["outcomes"]] == list(question.outcomes)
        assert [each["logprob"] for each in made["outcomes"]] == logprobs
        shares = [exp(each - max(logprobs)) for each in logprobs]
        expected = [share / sum(shares) for share in shares]
        assert [each["probability"] for each in made["outcomes"]] == pytest.approx(expected)
        best = question.outcomes[expected.index(max(expected))]
        match question.kind:
            case "predicate":
                assert (made["decision"], made["probability"]) == (best == "yes", pytest.approx(expected[0]))
            case "choice":
                assert made["decision"] == best
            case "score":
                assert made["decision"] == int(best)
                assert made["expectation"] == pytest.approx(expected[0] + 2 * expected[1] + 3 * expected[2])
        assert (made["object"], made["type"], made["model"], made["calibrated"]) == (
            "decision", question.kind, "small", False,
        )  # fmt: skip
        assert (made["usage"]["prompt_tokens"], made["usage"]["completion_tokens"]) == (tokens, 0)
        assert answer.headers["x-penstock-rung"] == made["penstock"]["rung"] == "small"
        (row,) = service.rows().values()
        assert row["prompt_tokens"] == tokens
        assert service.quota_use("acme").minute_requests == 1


async def test_a_calibration_changes_how_sure_it_is_and_says_so() -> None:
    _, logprobs = weighed(CASES[0][1])
    shares = [exp((each - max(logprobs)) / 4) for each in logprobs]
    async with stage({}, settings=CALIBRATED) as service, gateway(service.service) as running:
        made = (await ask(await running.connect())).json
        assert made["calibrated"] is True
        assert made["probability"] == pytest.approx(shares[0] / sum(shares))


REFUSED: list[tuple[dict[str, Any], str, str | None]] = [
    ({"model": "mini"}, "model_makes_embeddings", "model"),
    ({"model": "far"}, "decision_needs_engine", "model"),
    ({"model": "none"}, "model_not_found", "model"),
    ({"input": None}, "invalid_value", "input"),
    ({"input": "word " * 2000}, "context_length_exceeded", "input"),
]


@pytest.mark.parametrize(("fields", "code", "param"), REFUSED)
async def test_what_is_refused(fields: dict[str, Any], code: str, param: str | None) -> None:
    async with (
        stage({}, settings=WITH_UPSTREAMS, encoders={"mini": EmbeddingSizes(8)}, clean=False) as service,
        gateway(service.service) as running,
    ):
        refused = await ask(await running.connect(), **fields)
        assert (refused.error["code"], refused.error["param"]) == (code, param), refused.body


async def test_an_upstream_in_the_ladder_is_passed_over() -> None:
    async with (
        stage({}, settings=WITH_UPSTREAMS, encoders={"mini": EmbeddingSizes(8)}) as service,
        gateway(service.service) as running,
    ):
        answer = await ask(await running.connect(), model="either")
        assert answer.status == 200, answer.body
        assert answer.json["penstock"]["rung"] == "large"
