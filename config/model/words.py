"""Words of the policy language that are defined elsewhere in the project; a test holds the two together."""

import re

ADDRESSES = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/stream")
"""At which requests for a model arrive: `gateway.endpoints.routes`."""

LANGUAGES = (
    *("en", "de", "fr", "es", "it", "pt", "nl", "pl", "sv", "tr"),
    *("ja", "ko", "zh", "ru", "ar", "he", "hi", "el", "th", "und"),
)
"""That `policies.routing.language` tells apart."""

WHYS = ("default", "asked_large", "busy", "budget", "small_unavailable", "tokenizers_differ")
"""A planned cascade's words: `policies.model.plan`."""

STATIC_ANSWER = "static_answer"
"""The name of a ladder's text among rungs: `policies.authoring.decision`."""


_ADAPTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_adapter_name(name: str) -> bool:
    """It can stand in an address, in a header, and after a model's name and a colon."""
    return _ADAPTER_NAME.fullmatch(name) is not None
