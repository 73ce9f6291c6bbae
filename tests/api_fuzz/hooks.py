"""What schemathesis changes of its requests: else most of them would ask for models that are not there."""

import os
from typing import Any

import schemathesis

BATCH_FILE = os.environ.get("BATCH_FILE", "")
"""The id of a file that batches can be made of."""

MODELS = {"/v1/embeddings": "minilm", "/v1/rerank": "minilm", "/v2/rerank": "minilm", "/rerank": "minilm",
          "/v1/score": "minilm", "/score": "minilm", "/classify": "labels", "/v1/moderations": "safety"}  # fmt: skip
"""By address; "small" at all others."""
MOST_TOKENS = 8
"""Of each answer: what is fuzzed is the API, not the model."""
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


@schemathesis.hook  # type: ignore[untyped-decorator]
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Only values that are valid anyway are replaced, so that a request that is to be refused stays so."""
    body = case.body
    if not isinstance(body, dict):
        return
    if case.operation.path == "/v1/batches" and isinstance(body.get("input_file_id"), str):
        body["input_file_id"] = BATCH_FILE
    if isinstance(body.get("model"), str):
        body["model"] = MODELS.get(case.operation.path, "small")
    limits = [name for name in _LIMITS if name in body]
    for name in limits:
        if type(body[name]) is int and MOST_TOKENS < body[name] < 2**31:
            body[name] = MOST_TOKENS
    if type(body.get("n")) is int and body["n"] > 2:
        body["n"] = 2


@schemathesis.serializer("application/toml")  # type: ignore[untyped-decorator]
def toml(context: Any, value: Any) -> dict[str, Any]:
    """The text as it is."""
    return {"data": value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")}
