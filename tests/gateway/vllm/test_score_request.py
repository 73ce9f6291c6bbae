"""`/score` and `/classify`: bodies as they are read, and the answers."""

from typing import Any

import msgspec
import pytest

from actors.api.request import TextPrompt
from actors.api.response import Usage
from gateway.errors import BadField
from gateway.openai.requests.json_body import BodyDecoder
from gateway.openai.responses.completion import Identity
from gateway.vllm.asked_scores import FoundScores
from gateway.vllm.score_request import (
    ClassifyBody,
    ScoreBody,
    classify_answer,
    read_classify,
    read_score,
    score_answer,
)
from tests.gateway.fakes import SERVED

IDENTITY = Identity("1", "judge", 5, "")
USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 0,
    "total_tokens": 9,
    "prompt_tokens_details": {"cached_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
}


def score(text_1: Any, text_2: Any, *, reads_pairs: bool = True):
    raw = msgspec.json.encode({"model": "judge", "text_1": text_1, "text_2": text_2})
    return read_score(BodyDecoder(ScoreBody).decode(raw)[0], 3, reads_pairs=reads_pairs)


def classify(**fields: Any):
    raw = msgspec.json.encode({"model": "judge", **fields})
    return read_classify(BodyDecoder(ClassifyBody).decode(raw)[0], 3, reads_pairs=False)


@pytest.mark.parametrize(
    ("text_1", "text_2", "pairs", "compared"),
    [
        ("a", "b", [("a", "b")], ((0, 1),)),
        ("a", ["b", "c"], [("a", "b"), ("a", "c")], ((0, 1), (0, 2))),
        (["a"], ["b", "c"], [("a", "b"), ("a", "c")], ((0, 1), (0, 2))),
        (["a", "d"], ["b", "c"], [("a", "b"), ("d", "c")], ((0, 2), (1, 3))),
    ],
)
def test_which_texts_are_compared(text_1: Any, text_2: Any, pairs: list[tuple[str, str]], compared: Any) -> None:
    asked = score(text_1, text_2)
    assert (asked.body.prompts, asked.compared) == (tuple(TextPrompt(*pair) for pair in pairs), None)
    embedded = score(text_1, text_2, reads_pairs=False)
    texts = [prompt.text for prompt in embedded.body.prompts if isinstance(prompt, TextPrompt)]
    assert embedded.compared == compared
    assert [(texts[first], texts[second]) for first, second in compared] == pairs


@pytest.mark.parametrize(
    ("text_1", "text_2", "param"),
    [
        ([], "b", "text_1"),
        ("a", [], "text_2"),
        (["a", "b"], "c", "text_1"),
        (["a", "b"], ["c"] * 3, "text_1"),
        ("a", ["b"] * 4, "text_2"),
        ("a", [1], "text_2[0]"),
    ],
)
def test_what_is_no_score(text_1: Any, text_2: Any, param: str) -> None:
    with pytest.raises(BadField) as refused:
        score(text_1, text_2)
    assert refused.value.body.param == param


def test_what_is_classified() -> None:
    asked = classify(input=["a", ""], activation=True)
    assert (asked.body.prompts, asked.body.param) == ((TextPrompt("a"), TextPrompt("")), "input")
    assert asked.body.embedding is not None
    assert asked.body.embedding.scores == "any"
    assert classify(input="a").body.prompts == (TextPrompt("a"),)


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"input": []}, "input"), ({"input": ["a"] * 4}, "input"), ({"input": "a", "activation": False}, "activation")],
)
def test_what_is_not_classified(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadField) as refused:
        classify(**fields)
    assert refused.value.body.param == param


def test_answers() -> None:
    found = FoundScores(IDENTITY, [[0.5], [0.25]], ("LABEL_0",), Usage(9, 0), SERVED)
    answer = msgspec.json.decode(score_answer(ScoreBody(model="judge", text_1="a", text_2="b"), found))
    assert answer.pop("penstock")["rung"] == "small"
    data = [{"index": index, "object": "score", "score": value} for index, value in enumerate((0.5, 0.25))]
    assert answer == {
        "id": "score-1",
        "object": "list",
        "created": 5,
        "model": "judge",
        "data": data,
        "usage": USAGE,
    }
    found = FoundScores(IDENTITY, [[0.25, 0.75], [0.5, 0.5]], ("no", "yes"), Usage(9, 0), SERVED)
    answer = msgspec.json.decode(classify_answer(ClassifyBody(model="judge", input="a"), found))
    assert answer["id"] == "classify-1"
    assert answer["data"] == [
        {"index": 0, "label": "yes", "probs": [0.25, 0.75], "num_classes": 2},
        {"index": 1, "label": "no", "probs": [0.5, 0.5], "num_classes": 2},
    ]
