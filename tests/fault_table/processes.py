"""Rows with real processes and sockets: the gateway's own, and an engine's, end by SIGKILL in the midst of answers.

One run gives all rows: a gateway answers every request of the table once without a fault, then all of them at the same
time; one signal ends it, and a second gateway is started on the same ledger. Nothing in these rows depends on how far
each answer had come, so that they are the same each time.
"""

import json
import os
import shutil
import signal
import sqlite3
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from tests.e2e.conftest import CONFIG, write_model
from tests.e2e.process import GatewayProcess
from tests.e2e.test_adapters_live import write_adapter
from tests.e2e.test_hosted_engine import child_of
from tests.e2e.test_process import gauges
from tests.fault_table.case import FaultRow, Verdict
from tests.fault_table.seen import TRANSPORTS, Seen, Transport, ask, read_events
from tests.gateway.harness import Gateway
from tests.patience import PATIENCE_S

GATEWAY, ENGINE = "gateway killed", "engine's process killed"
LENGTH = 200
SETTINGS = (
    CONFIG.replace("4MiB", "64MiB")
    .replace("[server]", '[server]\nkept_file = "kept.sqlite3"')
    .replace('kv = { memory = "64MiB" }', 'kv = { memory = "64MiB" }\nmax_running = 64')
    .replace("[models.small]", "[models.hosted]\n[models.checked]\n[models.small]\nadapters = true")
    .replace(
        '[[routes]]\nname = "small"',
        """[engines.small.adapters.legal]
path = "legal"
[engines.hosted]
model = "small"
kv = { memory = "64MiB" }
host = "process"
[cascades.checked]
stages = ["small", "large"]
emit = { mode = "verified", draft_tokens = 8, off_above_batch = 64 }
on_failure = "large-first"
[[ladders.hosted-first]]
to = "hosted"
[[ladders.hosted-first]]
to = "small"
[[routes]]
name = "hosted"
when = { model = ["hosted"] }
use = { ladder = "hosted-first" }
[[routes]]
name = "checked"
when = { model = ["checked"] }
use = { cascade = "checked" }
[[routes]]
name = "small\"""",
    )
)
_TEXT = {"type": "string", "minLength": LENGTH, "maxLength": LENGTH}
_OBJECT = {"type": "object", "properties": {"a": _TEXT}, "required": ["a"], "additionalProperties": False}
_SEEDED = {"temperature": 1, "seed": 7, "ignore_eos": True, "max_tokens": 400}
_FREE = {"temperature": 1, "seed": 7, "max_tokens": 400}
STATES: dict[str, dict[str, Any]] = {
    "plain text": {"temperature": 0, "ignore_eos": True, "max_tokens": 400},
    "a JSON schema, half open": {
        **_FREE,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": _OBJECT}},
    },
    "inside a tool call": {
        **_FREE,
        "tools": [{"type": "function", "function": {"name": "note", "strict": True, "parameters": _OBJECT}}],
        "tool_choice": "required",
    },
    "n = 4": {**_SEEDED, "n": 4},
    "log-probabilities": {**_SEEDED, "logprobs": True, "top_logprobs": 2},
    "seeded": _SEEDED,
    "a LoRA adapter": {**_SEEDED, "model": "small:legal"},
    "a cascade, in mid-verification": {**_SEEDED, "model": "checked"},
}


@dataclass
class LiveRequest:
    """One request that runs when the signal comes."""

    state: str
    transport: Transport
    seen: Seen
    had_pieces: bool = False
    """Before the signal."""
    after: list[str] = field(default_factory=list)
    """What the client finds after the restart."""

    @property
    def headers(self) -> str:
        return f"Idempotency-Key: {self.transport} {list(STATES).index(self.state)}\r\nx-penstock-resumable: true\r\n"


def body_of(state: str) -> dict[str, Any]:
    return {"model": "small", "messages": [{"role": "user", "content": "What is in the box?"}], **STATES[state]}


@contextmanager
def _gateway(folder: Path, name: str) -> Iterator[GatewayProcess]:
    process = GatewayProcess("--config", str(folder / "config.toml"), log=folder / name)
    try:
        yield process
    finally:
        process.end()


def run(folder: Path) -> list[FaultRow]:
    """All rows, in order."""
    write_model(folder / "small", 1)
    shutil.copytree(folder / "small", folder / "large")
    write_adapter(folder / "small", folder / "legal", 1)
    (folder / "config.toml").write_text(SETTINGS)
    with _gateway(folder, "first.log") as first:
        uncut = trio.run(_uncut, first.port)
        engine_rows = trio.run(_kill_engine, first)
        requests = trio.run(_kill_gateway, first)
        first.wait()
    with _gateway(folder, "second.log") as second:
        trio.run(_come_back, second.port, requests, uncut)
        left = _left(second, folder)
    rows = _ledger(folder)
    return [*engine_rows, *[_row(each, uncut, rows, left) for each in requests]]


async def _uncut(port: int) -> Mapping[str, Seen]:
    """Each answer without a fault."""
    found = {}
    for state in STATES:
        found[state] = Seen("whole")
        await ask_process(port, "whole", body_of(state), found[state])
        assert found[state].done, (state, found[state].error)
    return found


def _reached(port: int) -> Gateway:
    return Gateway(None, port)  # type: ignore[arg-type]


async def _kill_engine(process: GatewayProcess) -> list[FaultRow]:
    """In the midst of an answer; the next rung has the same model in a thread."""
    body = {**body_of("plain text"), "model": "hosted", "max_tokens": 800}
    uncut = Seen("whole")
    await ask_process(process.port, "whole", body, uncut)
    rows = []
    for transport in TRANSPORTS:
        seen = Seen(transport)
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask_process, process.port, transport, body, seen)
                while not (seen.pieces or seen.ended or (transport == "whole" and _runs(process))):  # noqa: ASYNC110
                    await trio.sleep(0.002)
                os.kill(child_of(process), signal.SIGKILL)
        assert seen.done, (seen.error, process.log)
        verdict: Verdict = "rescued" if seen.content() == uncut.content() else "DRESSED"
        saw = f"200, the whole answer: {seen.usage[1] if seen.usage else '?'} tokens"
        billed = f"{seen.usage[0]} + {seen.usage[1]}; `ok`" if seen.usage else "?"
        text = "by SIGKILL, the same model is next in a thread"
        rows.append(FaultRow(ENGINE, text, "plain text", transport, saw, verdict, billed, "–", "clean"))
        while not hosted_is_ready(process):  # noqa: ASYNC110
            await trio.sleep(0.05)
    return rows


def _runs(process: GatewayProcess) -> bool:
    return sum(gauges(process, "num_requests_running")) > 0


def hosted_is_ready(process: GatewayProcess) -> bool:
    with urllib.request.urlopen(f"{process.url}/readyz") as response:
        engines = json.load(response)["engines"]
    return bool(engines["hosted"]["state"] == "ready")


async def ask_process(port: int, transport: Transport, body: Mapping[str, Any], seen: Seen, headers: str = "") -> None:
    reached = _reached(port)
    try:
        await ask(reached, transport, dict(body), seen=seen, headers=headers)
    finally:
        reached.close_clients()


async def _kill_gateway(process: GatewayProcess) -> list[LiveRequest]:
    """When all of them run, and those that show anything have shown some of it: of a call over SSE, its id."""
    requests = [LiveRequest(state, transport, Seen(transport)) for state in STATES for transport in TRANSPORTS]
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for each in requests:
                nursery.start_soon(
                    ask_process, process.port, each.transport, body_of(each.state), each.seen, each.headers
                )
            shown = [each for each in requests if each.transport != "whole" and each.state != "inside a tool call"]
            calls = [each for each in requests if each.transport == "SSE" and each.state == "inside a tool call"]
            while not all([*[each.seen.pieces for each in shown], *[each.seen.request_id for each in calls]]):  # noqa: ASYNC110
                await trio.sleep(0.002)
            process.signal(signal.SIGKILL)
    for each in requests:
        each.had_pieces = each.seen.pieces > 0
    done = [(each.state, each.transport) for each in requests if not each.seen.lost]
    assert not done, f"{done} had ended before the signal came: make their answers longer"
    return requests


async def _come_back(port: int, requests: list[LiveRequest], uncut: Mapping[str, Seen]) -> None:
    """To the next gateway: for the rest of the stream, and with the same request again."""
    for each in requests:
        if each.transport == "SSE" and not each.seen.request_id:
            each.after.append("no id had come by then")
        elif each.transport == "SSE":
            client = await _reached(port).connect()
            path = f"/v1/streams/{each.seen.request_id}"
            response = await client.get(f"{path}?after={each.seen.last_id}")
            if response.status == 200:
                read_events(response.body, each.seen)
                same = each.seen.done and each.seen.content() == uncut[each.state].content()
                each.after.append(f"`GET /v1/streams/ID`: 200, {'the rest' if same else 'not the rest'}")
            else:
                each.after.append(f"`GET /v1/streams/ID`: {response.status} `{response.error['code']}`")
            await client.aclose()
        again = Seen(each.transport)
        await ask_process(port, each.transport, body_of(each.state), again, each.headers)
        same = again.done and again.content() == uncut[each.state].content() and _begins(again, each.seen)
        each.after.append(f"the same request again: {'the same answer' if same else 'ANOTHER ANSWER'}")


def _begins(whole: Seen, part: Seen) -> bool:
    """What was seen before the signal is the beginning of it."""
    return all(
        whole.choices[index].text.startswith(choice.text)
        and whole.choices[index].logprobs[: len(choice.logprobs)] == choice.logprobs
        for index, choice in part.choices.items()
    )


def _left(process: GatewayProcess, folder: Path) -> str:
    """In the second gateway, and in the ledger."""
    still_running = sum(gauges(process, "num_requests_running")) + sum(gauges(process, "num_requests_waiting"))
    books = sqlite3.connect(folder / "ledger.sqlite3")
    try:
        open_rows = 0
        while True:
            (open_rows,) = books.execute("SELECT count(*) FROM requests WHERE closed_at IS NULL").fetchone()
            if not open_rows:
                break
    finally:
        books.close()
    return "clean" if not still_running and not open_rows else f"NOT CLEAN: {still_running} run, {open_rows} open rows"


def _ledger(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """By request: outcome, prompt and completion tokens of each process that served it."""
    books = sqlite3.connect(folder / "ledger.sqlite3")
    try:
        found = books.execute("SELECT request_id, outcome, prompt_tokens, completion_tokens FROM requests").fetchall()
    finally:
        books.close()
    rows: dict[str, list[tuple[Any, ...]]] = {}
    for request_id, *row in found:
        rows.setdefault(request_id, []).append(tuple(row))
    return rows


def _differs(each: LiveRequest, uncut: Mapping[str, Seen]) -> bool:
    return each.seen.content() != uncut[each.state].content()


def _billed(each: LiveRequest, uncut: Mapping[str, Seen], rows: Mapping[str, list[tuple[Any, ...]]]) -> str:
    usage = uncut[each.state].usage
    assert usage is not None
    mine = rows.get(each.seen.request_id)
    if mine is None:
        # Nothing of it had come, and no id. There are as many rows without a charge.
        crashed = [row for every in rows.values() for row in every if row[0] == "crashed"]
        mine = [row for row in crashed if row[1:] == (0, 0)][:1] or [("?", 0, 0)]
    elif not each.seen.done and mine[0][0] == "crashed":
        most = STATES[each.state]["max_tokens"] * STATES[each.state].get("n", 1)
        is_noted = mine[0][1] == usage[0] and mine[0][2] < most
        return "at most what had come; `crashed`" if is_noted or mine[0][1:] == (0, 0) else "MORE THAN CAME"
    prompt, completion = sum([row[1] for row in mine]), sum([row[2] for row in mine])
    parts = "" if len(mine) == 1 else f", in {len(mine)} parts"
    return f"{prompt} + {completion}{parts}; {', '.join(sorted(f'`{row[0]}`' for row in mine))}"


def _row(
    each: LiveRequest, uncut: Mapping[str, Seen], rows: Mapping[str, list[tuple[Any, ...]]], left: str
) -> FaultRow:
    verdict: Verdict = "rescued" if each.seen.done else "true error" if each.seen.error else "cut"
    if any("ANOTHER ANSWER" in text for text in each.after) or (each.seen.done and _differs(each, uncut)):
        verdict = "DRESSED"
    seen = "the connection was closed" + (", after some pieces" if each.had_pieces else "")
    return FaultRow(
        GATEWAY,
        "by SIGKILL",
        each.state,
        each.transport,
        "; ".join([seen, *each.after]),
        verdict,
        _billed(each, uncut, rows),
        "–",
        left,
    )
