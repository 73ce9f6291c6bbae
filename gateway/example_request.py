"""A first request to try, as a shell command."""

import shlex
from typing import Any, Literal

from config.model.settings import Settings
from engine.model.vector_model import made_by
from gateway.openai.json_text import encode

KEY_VARIABLE = "PENSTOCK_KEY"
ExamplePath = Literal["/v1/chat/completions", "/v1/embeddings", "/classify"]
_QUESTION = "What is 17 + 25?"


def example_request(url: str, model: str, *, key: bool, path: ExamplePath = "/v1/chat/completions") -> str:
    """A complete curl command; with `key` it reads the API key from the environment variable PENSTOCK_KEY."""
    body: dict[str, Any] = {"model": model}
    if path == "/v1/chat/completions":
        body |= {"stream": True, "messages": [{"role": "user", "content": _QUESTION}]}
    else:
        body |= {"input": _QUESTION}
    words = ["curl", "-N", url + path, "-H", "content-type: application/json", "-d", encode(body).decode()]
    command = shlex.join(words)
    return f'{command} -H "authorization: Bearer ${KEY_VARIABLE}"' if key else command


def example_path(settings: Settings) -> ExamplePath:
    """Where to try the first request. The model files must have been checked before."""
    made = {made_by(engine.model, engine.rerank) for engine in settings.engines.values()}
    if settings.upstreams or "text" in made:
        return "/v1/chat/completions"
    return "/classify" if made == {"scores"} else "/v1/embeddings"
