"""vLLM's addresses: scores, labels, tokens."""

from gateway.endpoints.operations.common import MODEL, MODEL_ERRORS, QUESTION, found, made_by_model
from gateway.openai.requests.json_body import whole_body
from gateway.openapi.headers import POLICY_TAGS
from gateway.openapi.operation import Operation
from gateway.openapi.words import SCORES, TOKENS
from gateway.vllm.answer_types import ClassifyAnswer, DetokenizeAnswer, RerankAnswer, ScoreAnswer, TokenizeAnswer
from gateway.vllm.rerank_request import RerankBody
from gateway.vllm.score_request import ClassifyBody, ScoreBody
from gateway.vllm.tokenize_request import DetokenizeBody, TokenizeBody

_DOCUMENTS = ["Rivers carry water.", "Mountains are high."]
VLLM_OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/rerank",
        name="rerank",
        tag=SCORES,
        summary="Order documents by their relevance",
        text="Cohere's and Jina's format.",
        body=whole_body(RerankBody),
        examples={
            "texts": {"model": "minilm", "query": "What is a river?", "documents": _DOCUMENTS},
            "best": {
                "model": "minilm",
                "query": "What is a river?",
                "documents": [{"text": text} for text in _DOCUMENTS],
                "top_n": 1,
                "return_documents": True,
            },
        },
        parameters=(POLICY_TAGS,),
        answers={200: made_by_model(RerankAnswer)},
        refused=MODEL_ERRORS,
        same_as=("/rerank", "/v2/rerank"),
    ),
    Operation(
        method="POST",
        path="/v1/score",
        name="score",
        tag=SCORES,
        summary="How similar two texts are",
        body=whole_body(ScoreBody),
        examples={"one to many": {"model": "minilm", "text_1": "What is a river?", "text_2": _DOCUMENTS}},
        parameters=(POLICY_TAGS,),
        answers={200: made_by_model(ScoreAnswer)},
        refused=MODEL_ERRORS,
        same_as=("/score",),
    ),
    Operation(
        method="POST",
        path="/classify",
        name="classify",
        tag=SCORES,
        summary="The labels of texts",
        body=whole_body(ClassifyBody),
        examples={"texts": {"model": "labels", "input": _DOCUMENTS}},
        parameters=(POLICY_TAGS,),
        answers={200: made_by_model(ClassifyAnswer)},
        refused=MODEL_ERRORS,
    ),
    Operation(
        method="POST",
        path="/v1/tokenize",
        name="tokenize",
        tag=TOKENS,
        summary="The tokens of a prompt",
        body=whole_body(TokenizeBody),
        examples={
            "text": {"model": MODEL, "prompt": "17 + 25"},
            "chat": {"model": MODEL, "messages": QUESTION, "return_token_strs": True},
        },
        parameters=(POLICY_TAGS,),
        answers=found(TokenizeAnswer, "The tokens."),
        refused=MODEL_ERRORS,
        same_as=("/tokenize",),
    ),
    Operation(
        method="POST",
        path="/v1/detokenize",
        name="detokenize",
        tag=TOKENS,
        summary="The text of tokens",
        body=whole_body(DetokenizeBody),
        examples={"tokens": {"model": MODEL, "tokens": [20, 21]}},
        parameters=(POLICY_TAGS,),
        answers=found(DetokenizeAnswer, "The text."),
        refused=MODEL_ERRORS,
        same_as=("/detokenize",),
    ),
)
