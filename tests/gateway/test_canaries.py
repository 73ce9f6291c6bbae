"""Words planted in prompts, answers, keys and headers are found nowhere: logs, metrics, errors, records, files."""

import logging
from pathlib import Path

import msgspec
import pytest
import structlog

from actors.ledger.store import Store
from gateway.telemetry.metrics import exposition
from policies.records.decision_record import encode_record
from tests.actors.fakes import says, stage
from tests.gateway.endpoints.test_refusal_log import KEY, POOR, SETTINGS
from tests.gateway.harness import connected, gateway

PROMPT, ANSWER, SECRET = "canary-of-a-prompt", "canary-of-an-answer", "canary-of-a-key"
QUOTED = "canary-that-its-sender-reads-again"
"""Names of fields and grammars that are wrong are quoted in the error, and nowhere else."""
CHAT = {"model": "small", "max_tokens": 40, "messages": [{"role": "user", "content": PROMPT}]}
SHOWN = [
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PROMPT}"}},
    {"type": "image_url", "image_url": {"url": f"https://a.example/{PROMPT}.png"}},
    {"type": "file", "file": {"file_data": f"https://a.example/{PROMPT}.pdf", "filename": PROMPT}},
]
REQUESTS = [
    # path, body, key
    ("/v1/chat/completions", CHAT, KEY.raw),
    ("/v1/chat/completions", {**CHAT, "stream": True}, KEY.raw),
    ("/v1/chat/completions", {**CHAT, "model": "whole"}, KEY.raw),
    ("/v1/chat/completions", {**CHAT, "model": "none"}, KEY.raw),
    ("/v1/chat/completions", {**CHAT, "temperature": PROMPT}, KEY.raw),
    ("/v1/chat/completions", {**CHAT, QUOTED: 1}, KEY.raw),
    ("/v1/chat/completions", {**CHAT, "max_tokens": 50_000}, KEY.raw),
    ("/v1/chat/completions", {**CHAT, "stop": [PROMPT], "user": "u"}, KEY.raw),
    ("/v1/chat/completions", {**CHAT, "tools": [{"type": "function", "function": {"name": PROMPT}}]}, KEY.raw),
    ("/v1/chat/completions", {**CHAT, "guided_regex": f"({QUOTED}"}, KEY.raw),
    ("/v1/chat/completions", f'{{"messages": "{PROMPT}'.encode(), KEY.raw),
    ("/v1/chat/completions", {**CHAT, "messages": [{"role": "user", "content": SHOWN}]}, KEY.raw),
    ("/v1/chat/completions", {**CHAT, "messages": [{"role": "user", "content": SHOWN[1:]}]}, KEY.raw),
    (
        "/v1/responses",
        {"model": "small", "input": [{"role": "user", "content": [{"type": "input_file", "file_data": PROMPT}]}]},
        KEY.raw,
    ),
    (
        "/v1/messages",
        {
            **CHAT,
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image", "source": {"type": "url", "url": f"https://a.example/{PROMPT}"}}],
                }
            ],
        },
        KEY.raw,
    ),
    ("/v1/completions", {"model": "small", "prompt": PROMPT, "max_tokens": 40}, KEY.raw),
    ("/v1/completions", {"model": "small", "prompt": [PROMPT, 1]}, KEY.raw),
    ("/v1/embeddings", {"model": "small", "input": PROMPT}, KEY.raw),
    ("/v1/messages", {**CHAT, "system": PROMPT, "metadata": {"user_id": "u"}}, KEY.raw),
    ("/v1/messages", {**CHAT, "stream": True}, KEY.raw),
    ("/v1/messages", {**CHAT, "temperature": PROMPT}, KEY.raw),
    ("/v1/messages", {**CHAT, "system": [{"type": "text", "text": PROMPT, "citations": [PROMPT]}]}, KEY.raw),
    ("/v1/messages", {**CHAT, "tools": [{"name": PROMPT, "input_schema": {}}]}, KEY.raw),
    ("/v1/messages", CHAT, SECRET),
    ("/v1/messages/count_tokens", {**CHAT, "thinking": {"type": "adaptive", "display": PROMPT}}, KEY.raw),
    ("/v1/messages/count_tokens", CHAT, KEY.raw),
    ("/v1/responses", {"model": "small", "input": PROMPT, "instructions": PROMPT}, KEY.raw),
    ("/v1/responses", {"model": "small", "input": [{"role": "user", "content": PROMPT}], "stream": True}, KEY.raw),
    ("/v1/responses", {"model": "small", "input": PROMPT, "previous_response_id": "resp_0"}, KEY.raw),
    ("/v1/responses", {"model": "small", "input": [{"type": "function_call", "arguments": PROMPT}]}, KEY.raw),
    ("/v1/conversations", {"items": [{"role": "user", "content": PROMPT}], "metadata": {"a": PROMPT}}, KEY.raw),
    ("/tokenize", {"model": "small", "prompt": PROMPT, "return_token_strs": True}, KEY.raw),
    ("/tokenize", {"model": "small", "prompt": [PROMPT]}, KEY.raw),
    ("/rerank", {"model": "mini", "query": PROMPT, "documents": [PROMPT, {"text": PROMPT}]}, KEY.raw),
    ("/score", {"model": "mini", "text_1": PROMPT, "text_2": [PROMPT, 1]}, KEY.raw),
    ("/v1/chat/completions", CHAT, POOR.raw),
    ("/v1/chat/completions", CHAT, f"penstock_app_{SECRET}"),
    ("/v1/chat/completions", CHAT, SECRET),
    (f"/v1/chat/completions?api_key={SECRET}", CHAT, KEY.raw),
    (f"/v1/nothing?api_key={SECRET}", CHAT, SECRET),
]


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()]


@pytest.mark.parametrize("fails", [False, True])
async def test_no_canary_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture, fails: bool) -> None:
    ledger, record = tmp_path / "ledger.sqlite3", tmp_path / "record.jsonl"
    scripts = {name: says(f"{ANSWER} {ANSWER}", {3: 0.1} if name == "small" else None, prompt=18)
               for name in ("small", "large")}  # fmt: skip
    errors: list[bytes] = []
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as logs:
        store = Store(ledger, "test")
        async with (
            stage(scripts, settings=SETTINGS, store=store, record=record, step_s=0.001, clean=False) as service,
            gateway(service.service) as clients,
        ):
            if fails:

                def fail(number: int, batch: object) -> None:
                    raise RuntimeError("a fault")

                service.on_step["small"] = service.on_step["large"] = fail
            for path, body, key in REQUESTS:
                if fails and body not in (CHAT, {**CHAT, "stream": True}):
                    continue
                client = await clients.connect()
                header = "x-api-key:" if path.startswith("/v1/messages") else "Authorization: Bearer"
                answer = await client.request(path, body, headers=f"{header} {key}\r\n")
                if answer.status != 200:
                    errors.append(answer.body)
            async with connected(clients, [(b"authorization", b"Bearer " + KEY.raw.encode())]) as socket:
                await socket.send({"type": "start", "id": "a", **CHAT, "top_p": PROMPT})
                errors.append(msgspec.json.encode((await socket.until("error"))[-1]))
            metrics = exposition(service.service, int)
            decisions = [
                encode_record(found)
                for line in logs
                if (found := service.service.admin.decision(line.get("request_id", ""))) is not None
            ]
            view = [msgspec.json.encode(service.service.admin.policy(), enc_hook=str),
                    msgspec.json.encode(service.service.admin.keys.states())]  # fmt: skip
    assert len(errors) > 2
    assert decisions
    seen = {
        "logs": repr(logs).encode() + caplog.text.encode(),
        "metrics": metrics,
        "errors": b"".join(errors),
        "decisions": b"".join(decisions),
        "admin": b"".join(view),
        **{path.name: path.read_bytes() for path in files_in(tmp_path)},
    }
    assert {"ledger.sqlite3", "record.jsonl"} <= set(seen)
    assert {name for name, text in seen.items() if QUOTED.encode() in text} <= {"errors"}
    canaries = [PROMPT, ANSWER, SECRET, KEY.raw, POOR.raw, KEY.raw.rpartition("_")[2]]
    assert {(name, word) for name, text in seen.items() for word in canaries if word.encode() in text} == set()
