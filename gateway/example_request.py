"""A first request to try, as a shell command."""

import shlex
from typing import Any

from config.model.settings import Settings
from engine.model.encoder_config import is_encoder
from gateway.openai.json_text import encode

KEY_VARIABLE = "PENSTOCK_KEY"
_QUESTION = "What is 17 + 25?"


def example_request(url: str, model: str, *, key: bool, embeds: bool = False) -> str:
    """A complete curl command; with `key` it reads the API key from the environment variable PENSTOCK_KEY.

    `embeds`: the model makes embeddings.
    """
    body: dict[str, Any] = {"model": model}
    if embeds:
        path, body = "/v1/embeddings", body | {"input": _QUESTION}
    else:
        messages = [{"role": "user", "content": _QUESTION}]
        path, body = "/v1/chat/completions", body | {"stream": True, "messages": messages}
    words = ["curl", "-N", url + path, "-H", "content-type: application/json", "-d", encode(body).decode()]
    command = shlex.join(words)
    return f'{command} -H "authorization: Bearer ${KEY_VARIABLE}"' if key else command


def embeds_only(settings: Settings) -> bool:
    """Whether every engine is an encoder. The model files must have been checked before."""
    return not settings.upstreams and all(is_encoder(engine.model) for engine in settings.engines.values())
