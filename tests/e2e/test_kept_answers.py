"""A stream whose server gets SIGKILL is read on from the next process: the same text, and each event once."""

import json
import signal
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio_websocket import open_websocket_url

from tests.e2e.process import GatewayProcess
from tests.e2e.test_restarts import kill, own
from tests.patience import PATIENCE_S

__all__ = ["own"]
BODY = {"model": "small", "messages": [{"role": "user", "content": "What is 17 + 25?"}], "stream": True}
LONG = {**BODY, "ignore_eos": True, "max_tokens": 160, "stream_options": {"include_usage": True}}
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "array", "items": {"type": "integer"}, "minItems": 30, "maxItems": 30}},
    "required": ["a"],
    "additionalProperties": False,
}
JSON = {"type": "json_schema", "json_schema": {"name": "s", "strict": True, "schema": SCHEMA}}
REQUESTS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "seeded, two choices, log-probabilities": {
        "temperature": 1.0,
        "seed": 5,
        "n": 2,
        "logprobs": True,
        "top_logprobs": 1,
    },
    "JSON": {"temperature": 1.0, "seed": 6, "response_format": JSON, "max_tokens": 400, "ignore_eos": False},
}


@pytest.fixture
def config_file(own: Path) -> Path:
    text = own.read_text().replace('[server]\ndrain = "10s"', '[server]\ndrain = "0s"\nkept_file = "kept.sqlite3"')
    own.write_text(text.replace('name = "small"\nwhen', 'name = "small"\nmidstream = "continue"\nwhen'))
    return own


def events_of(answer: httpx.Response, until: int | None = None) -> list[tuple[int, str]]:
    """Number and data of each event; `until`: of so many."""
    found, number = [], 0
    for line in answer.iter_lines():
        if line.startswith("id: "):
            number = int(line[4:])
        elif line.startswith("data: "):
            found.append((number, line[6:]))
            if len(found) == until:
                break
    return found


def content(events: list[tuple[int, str]]) -> dict[int, tuple[str, list[Any]]]:
    """Text and log-probabilities of each choice."""
    texts: dict[int, tuple[str, list[Any]]] = {}
    for _, data in events:
        for choice in json.loads(data)["choices"] if data != "[DONE]" else []:
            text, logprobs = texts.get(choice["index"], ("", []))
            more = (choice["logprobs"] or {}).get("content") or []
            texts[choice["index"]] = text + (choice["delta"].get("content") or ""), logprobs + more
    return texts


def begin(process: GatewayProcess, body: dict[str, Any], events: int | None) -> tuple[str, list[tuple[int, str]]]:
    headers = {"x-penstock-resumable": "true"}
    url = f"{process.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, headers=headers, timeout=PATIENCE_S) as answer:
        assert answer.status_code == 200
        return answer.headers["x-penstock-stream"], events_of(answer, events)


def resume(process: GatewayProcess, stream: str, last: int) -> list[tuple[int, str]]:
    headers = {"last-event-id": str(last)}
    with httpx.stream("GET", f"{process.url}/v1/streams/{stream}", headers=headers, timeout=PATIENCE_S) as answer:
        assert answer.status_code == 200, answer.read()
        return events_of(answer)


@pytest.mark.slow  # a minute; the next tests kill, too
def test_streams_go_on_after_a_kill(config_file: Path, tmp_path: Path) -> None:
    uncut: dict[str, Any] = {}
    first = GatewayProcess("--config", str(config_file), log=tmp_path / "0.log")
    try:
        for name, options in REQUESTS.items():
            _, events = begin(first, LONG | options, None)
            uncut[name] = content(events)
    finally:
        kill(first)
    for life, after in enumerate((2, 5, 11), 1):
        begun = {}
        process = GatewayProcess("--config", str(config_file), log=tmp_path / f"{life}a.log")
        try:
            for name, options in REQUESTS.items():
                begun[name] = begin(process, LONG | options, after)
        finally:
            kill(process)
        process = GatewayProcess("--config", str(config_file), log=tmp_path / f"{life}b.log")
        try:
            for name, (stream, events) in begun.items():
                rest = resume(process, stream, events[-1][0])
                numbers = [number for number, _ in events + rest]
                assert numbers == list(range(1, len(numbers) + 1)), name
                assert content(events + rest) == uncut[name], name
                assert rest[-1][1] == "[DONE]"
                again = resume(process, stream, 0)
                assert again == events + rest
        finally:
            kill(process)


@pytest.mark.slow  # half a minute
def test_a_stopped_server_names_the_stream_and_the_next_one_goes_on(config_file: Path, tmp_path: Path) -> None:
    process = GatewayProcess("--config", str(config_file), log=tmp_path / "a.log")
    events: list[tuple[int, str]] = []
    try:
        url, headers = f"{process.url}/v1/chat/completions", {"x-penstock-resumable": "true"}
        with httpx.stream("POST", url, json=LONG | {"max_tokens": 800}, headers=headers, timeout=PATIENCE_S) as answer:
            stream = answer.headers["x-penstock-stream"]
            number = 0
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    number = int(line[4:])
                elif line.startswith("data: "):
                    if number == 5:
                        process.signal(signal.SIGTERM)
                    events.append((number, line[6:]))
        assert process.wait() == 0
    finally:
        process.end()
    error = json.loads(events.pop()[1])["error"]
    assert (error["code"], error["stream"]) == ("shutting_down", stream)
    process = GatewayProcess("--config", str(config_file), log=tmp_path / "b.log")
    try:
        rest = resume(process, stream, events[-1][0])
    finally:
        kill(process)
    assert [number for number, _ in events + rest] == list(range(1, len(events + rest) + 1))
    assert json.loads(rest[-2][1])["usage"]["completion_tokens"] == 800
    books = sqlite3.connect(tmp_path / "ledger.sqlite3")
    rows = books.execute("SELECT outcome, prompt_tokens, completion_tokens FROM requests ORDER BY opened_at").fetchall()
    books.close()
    assert rows[0] == ("failed", rows[0][1], error["delivered_tokens"])
    if rows[-1][0] == "ok":
        # Else the second process was killed before the end was committed.
        assert sum(row[2] for row in rows) == 800


def test_sockets_and_the_background_go_on_after_a_kill(config_file: Path, tmp_path: Path) -> None:
    async def messages(first: dict[str, Any], most: int | None = None) -> list[Any]:
        seen: list[Any] = []
        async with open_websocket_url(f"ws://127.0.0.1:{process.port}/v1/stream") as socket:
            await socket.send_message(json.dumps(first))
            while len(seen) != most and (not seen or seen[-1]["type"] not in {"done", "error"}):
                seen.append(json.loads(await socket.get_message()))
        return seen

    body = {**BODY, "ignore_eos": True, "temperature": 0, "max_tokens": 500}
    start = {**body, "type": "start", "id": "a", "resumable": True}
    process = GatewayProcess("--config", str(config_file), log=tmp_path / "a.log")
    try:
        whole = httpx.post(
            f"{process.url}/v1/chat/completions", json=body | {"stream": False}, timeout=PATIENCE_S
        ).json()
        headers = {"x-penstock-background": "true", "idempotency-key": "k"}
        begun = httpx.post(
            f"{process.url}/v1/chat/completions", json=body | {"stream": False}, headers=headers, timeout=PATIENCE_S
        )
        assert begun.status_code == 202
        seen = trio.run(messages, start, 3)
    finally:
        kill(process)
    process = GatewayProcess("--config", str(config_file), log=tmp_path / "b.log")
    try:
        resume_it = {"type": "resume", "id": "b", "stream": seen[0]["stream"], "after": seen[-1]["number"]}
        seen += trio.run(messages, resume_it)
        found = httpx.get(f"{process.url}/v1/streams/{begun.json()['id']}", timeout=PATIENCE_S).json()
        retried = httpx.post(
            f"{process.url}/v1/chat/completions",
            json=body | {"stream": False},
            headers={"idempotency-key": "k"},
            timeout=PATIENCE_S,
        )
    finally:
        kill(process)
    text = whole["choices"][0]["message"]["content"]
    assert [message["number"] for message in seen] == list(range(1, len(seen) + 1))
    assert "".join([message.get("text", "") for message in seen]) == text
    assert seen[-1]["type"] == "done"
    assert found["choices"][0]["message"]["content"] == text
    assert retried.json() == found
