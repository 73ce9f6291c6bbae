"""Names in the policy language that other modules define; `tests/policies/test_words.py` compares them."""

import re

ADDRESSES = (
    *("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/stream"),
    *("/v1/messages", "/v1/messages/count_tokens", "/v1/responses", "/v1/responses/input_tokens"),
    *("/rerank", "/v1/rerank", "/v2/rerank", "/score", "/v1/score", "/classify"),
    *("/v1/moderations", "/v1/decisions"),
)
"""Paths of requests for a model, as in `gateway.endpoints.routes`."""

LANGUAGES = (
    *("en", "de", "fr", "es", "it", "pt", "nl", "pl", "sv", "tr"),
    *("ja", "ko", "zh", "ru", "ar", "he", "hi", "el", "th", "und"),
)
"""Languages that `policies.routing.language` identifies."""

REASON_CODES = ("default", "asked_large", "busy", "budget", "small_unavailable", "tokenizers_differ")
"""Reason codes of a planned cascade, as in `policies.model.plan.PlannedCascade.why`."""

STATIC_ANSWER = "static_answer"
"""Stands for a ladder's text in lists of rungs, as in `policies.authoring.decision`."""


_ADAPTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_adapter_name(name: str) -> bool:
    """Whether the name is safe in a URL, in a header and in MODEL:ADAPTER."""
    return _ADAPTER_NAME.fullmatch(name) is not None
