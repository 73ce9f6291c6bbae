"""`/rerank`: bodies as they are read, and the answer."""

from typing import Any

import msgspec
import pytest

from actors.api.request import TextPrompt
from actors.api.response import Usage
from gateway.errors import BadField
from gateway.openai.requests.json_body import BodyDecoder
from gateway.openai.responses.completion import Identity
from gateway.vllm.asked_scores import AskedScores, FoundScores
from gateway.vllm.rerank_request import RerankBody, read_rerank, rerank_answer
from tests.gateway.fakes import SERVED

ASK: dict[str, Any] = {"model": "judge", "query": "q", "documents": ["a", {"text": "b", "title": "B"}]}
FOUND = FoundScores(Identity("1", "judge", 5, ""), [[0.25], [0.5], [0.5]], ("LABEL_0",), Usage(9, 0), SERVED)


def body(**fields: Any) -> RerankBody:
    return BodyDecoder(RerankBody).decode(msgspec.json.encode({**ASK, **fields}))[0]


def read(*, reads_pairs: bool = True, **fields: Any) -> AskedScores:
    return read_rerank(body(**fields), 3, reads_pairs=reads_pairs)


def test_a_classifier_reads_pairs() -> None:
    asked = read(max_tokens_per_doc=7, user="eve")
    assert asked.body.prompts == (TextPrompt("q", "a", 7), TextPrompt("q", "b", 7))
    assert (asked.body.param, asked.body.user, asked.body.streamed, asked.compared) == ("documents", "eve", False, None)
    assert asked.body.embedding is not None
    assert (asked.body.embedding.scores, asked.body.embedding.endpoint) == ("one", "scores")


def test_an_embedding_model_reads_each_text_once() -> None:
    asked = read(reads_pairs=False, max_tokens_per_doc=7)
    query = TextPrompt("q", prompt_name="query", needs_prompt=False)
    first, second = [TextPrompt(text, None, 7, "document", needs_prompt=False) for text in "ab"]
    assert asked.body.prompts == (query, first, second)
    assert asked.compared == ((0, 1), (0, 2))
    assert asked.body.embedding is not None
    assert asked.body.embedding.scores == ""


@pytest.mark.parametrize(
    "harmless",
    [{"rank_fields": ["text"]}, {"rank_fields": []}, {"max_chunks_per_doc": 1}, {"priority": 0}, {"documents": [""]}],
)
def test_what_has_no_effect_is_accepted(harmless: dict[str, Any]) -> None:
    assert read(**harmless).body.prompts


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"query": ""}, "query", "invalid_value"),
        ({"documents": []}, "documents", "invalid_value"),
        ({"documents": ["a"] * 4}, "documents", "invalid_value"),
        ({"documents": ["a", {"title": "b"}]}, "documents[1].text", "invalid_type"),
        ({"documents": [{"text": 1}]}, "documents[0].text", "invalid_type"),
        ({"documents": [1]}, "documents[0]", "invalid_type"),
        ({"top_n": 0}, "top_n", "invalid_value"),
        ({"max_tokens_per_doc": 0}, "max_tokens_per_doc", "invalid_value"),
        ({"rank_fields": ["title"]}, "rank_fields", "unsupported_parameter"),
        ({"max_chunks_per_doc": 2}, "max_chunks_per_doc", "unsupported_parameter"),
        ({"priority": 1}, "priority", "unsupported_parameter"),
        ({"topn": 1}, "topn", "unknown_field"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(BadField) as refused:
        read(**fields)
    assert (refused.value.body.param, refused.value.body.code) == (param, code)


def test_the_best_document_comes_first() -> None:
    answer = msgspec.json.decode(rerank_answer(body(), FOUND))
    assert (answer["id"], answer["model"]) == ("rerank-1", "judge")
    assert answer["usage"] == {"prompt_tokens": 9, "total_tokens": 9}
    assert answer["penstock"]["rung"] == "small"
    expected = [(1, 0.5), (2, 0.5), (0, 0.25)]
    assert answer["results"] == [{"index": index, "relevance_score": score} for index, score in expected]


def test_some_documents_with_their_texts() -> None:
    asked = body(documents=["a", {"text": "b", "title": "B"}, "c"], top_n=2, return_documents=True)
    results = msgspec.json.decode(rerank_answer(asked, FOUND))["results"]
    assert [each["document"] for each in results] == [{"text": "b", "title": "B"}, {"text": "c"}]
