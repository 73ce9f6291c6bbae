"""`/tokenize` and `/detokenize`: by whose tokenizer, and what it costs: nothing."""

from typing import Any

import pytest
import trio

from engine.model.vectors import EmbeddingSizes
from tests.actors.fakes import CONFIG, stage
from tests.engine.tiny_tokenizers import EOS, byte_level_tokenizer
from tests.gateway.endpoints.test_refusal_log import KEY, SETTINGS
from tests.gateway.endpoints.test_token_count import GATE, UPSTREAMS
from tests.gateway.harness import Client, Response, gateway

TURNS = [{"role": "user", "content": "Hello?"}]
TOKENIZER = byte_level_tokenizer()
IDS = TOKENIZER.encode("Hello?")
LONG = "Hello? " * 2000


async def ask(client: Client, path: str, key: str = "", **fields: object) -> Response:
    headers = f"Authorization: Bearer {key}\r\n" if key else ""
    return await client.request(path, {"model": "small", **fields}, headers=headers)


@pytest.mark.parametrize("before", ["", "/v1"])
async def test_there_and_back_is_not_charged(before: str) -> None:
    async with stage({}, settings=SETTINGS) as service, gateway(service.service) as running:
        client = await running.connect()
        made = await ask(client, f"{before}/tokenize", KEY.raw, prompt="Hello?", return_token_strs=True)
        spelled = TOKENIZER.spellings(IDS)
        assert made.json == {"count": len(IDS), "max_model_len": 512, "tokens": IDS, "token_strs": spelled}
        back = await ask(client, f"{before}/detokenize", KEY.raw, tokens=IDS)
        assert (back.status, back.json) == (200, {"prompt": "Hello?"})
        assert service.rows() == {}
        assert service.quota_use("acme").minute_requests == 0


TOKENIZED: list[tuple[dict[str, Any], str]] = [
    ({"messages": TURNS}, "Hello?"),
    ({"messages": [*TURNS, *TURNS], "add_special_tokens": True}, "Hello?Hello?"),
    ({"prompt": f"a{EOS}"}, f"a{EOS}"),
    # More than the model takes: the count is what a client asks for. Long texts are a thread's work.
    ({"prompt": LONG}, LONG),
    ({"prompt": ""}, ""),
    ({"model": "near", "prompt": "Hello?"}, "Hello?"),
    ({"model": "mini", "prompt": "Hello?"}, "Hello?"),
]


@pytest.mark.parametrize(("fields", "text"), TOKENIZED)
async def test_texts_and_conversations(fields: dict[str, Any], text: str) -> None:
    settings, encoders = SETTINGS.replace(GATE, f"{UPSTREAMS}\n{GATE}"), {"mini": EmbeddingSizes(8)}
    async with stage({}, settings=settings, encoders=encoders) as service, gateway(service.service) as running:
        client, model = await running.connect(), fields.get("model", "small")
        made = await ask(client, "/tokenize", KEY.raw, **fields)
        assert (made.status, made.json["tokens"]) == (200, TOKENIZER.encode(text)), made.body
        assert made.json["max_model_len"] == {"small": 512, "near": None, "mini": 64}[model]
        back = await ask(client, "/detokenize", KEY.raw, model=model, tokens=made.json["tokens"])
        assert back.json == {"prompt": text}


REFUSED: list[tuple[str, dict[str, Any], int, str, str]] = [
    ("/tokenize", {"prompt": "Hi", "model": "far"}, 400, "tokenizer_unknown", "the upstream 'far'"),
    ("/detokenize", {"tokens": [1], "model": "either"}, 400, "tokenizer_unknown", "the upstream 'far'"),
    ("/tokenize", {"prompt": "Hi", "model": "none"}, 404, "model_not_found", "none"),
    ("/detokenize", {"tokens": [1, 99999]}, 400, "token_out_of_vocabulary", "99999"),
    ("/detokenize", {"tokens": ["a"]}, 400, "invalid_type", "tokens"),
    ("/v1/tokenize", {}, 400, "invalid_value", "prompt"),
]


@pytest.mark.parametrize(("path", "fields", "status", "code", "names"), REFUSED)
async def test_what_is_refused(path: str, fields: dict[str, Any], status: int, code: str, names: str) -> None:
    settings = CONFIG.replace(GATE, f"{UPSTREAMS}\n{GATE}")
    async with stage({}, settings=settings) as service, gateway(service.service) as running:
        client = await running.connect()
        refused = await ask(client, path, **fields)
        assert (refused.status, refused.error["code"]) == (status, code)
        assert names in refused.error["message"]


async def test_not_while_the_server_ends() -> None:
    async with stage({}) as service, gateway(service.service) as running:
        client = await running.connect()
        await service.service.drain(trio.current_time())
        for path, fields in (("/tokenize", {"prompt": "Hi"}), ("/detokenize", {"tokens": [1]})):
            refused = await ask(client, path, **fields)
            assert (refused.status, refused.error["code"]) == (503, "shutting_down")
