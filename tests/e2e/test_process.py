"""The process as others see it: curl, WebSocket, metrics, signals."""

import json
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.process import GatewayProcess, until
from tests.patience import PATIENCE_S

BODY = {
    "model": "small",
    "messages": [{"role": "user", "content": "What is 17 + 25?"}],
    "stream": True,
    "ignore_eos": True,
    "max_tokens": 800,
}


def gauges(process: GatewayProcess, name: str) -> list[float]:
    text = urllib.request.urlopen(f"{process.url}/metrics").read().decode()
    return [float(value) for value in re.findall(rf"^penstock:{name}\{{[^}}]*\}} (\S+)$", text, re.MULTILINE)]


def begin_stream(process: GatewayProcess, body: dict[str, object]) -> socket.socket:
    """A stream of which the first content has come."""
    raw = json.dumps(body).encode()
    sock = socket.create_connection(("127.0.0.1", process.port), timeout=PATIENCE_S)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(raw)
    sock.sendall(head + raw)
    said = b""
    while b'"content":"' not in said:
        part = sock.recv(65536)
        assert part, said
        said += part
    return sock


def rest(sock: socket.socket) -> bytes:
    """Until the body's end, or the connection's."""
    said = b""
    while not said.endswith(b"\r\n0\r\n\r\n") and (part := sock.recv(65536)):
        said += part
    return said


def booked(folder: Path) -> list[tuple[str | None, str | None, int | None]]:
    """(rung, outcome, completion tokens) of each row of the ledger."""
    books = sqlite3.connect(folder / "ledger.sqlite3")
    try:
        assert books.execute("pragma integrity_check").fetchone() == ("ok",)
        return books.execute("SELECT rung, outcome, completion_tokens FROM requests").fetchall()
    finally:
        books.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not there")
def test_curl(served: GatewayProcess) -> None:
    command = ["curl", "-sN", f"{served.url}/v1/chat/completions", "-H", "content-type: application/json"]
    said = subprocess.run(
        [*command, "-d", json.dumps({**BODY, "max_tokens": 5})], capture_output=True, check=True, timeout=PATIENCE_S
    ).stdout
    assert said.startswith(b"data: {")
    assert said.endswith(b"data: [DONE]\n\n")


def test_a_client_that_leaves_frees_its_blocks(served: GatewayProcess) -> None:
    before = gauges(served, "kv_blocks_free")
    sock = begin_stream(served, BODY)
    assert sum(gauges(served, "num_requests_running")) == 1
    sock.close()
    until(lambda: not sum(gauges(served, "num_requests_running")) and gauges(served, "kv_blocks_free") == before)
    assert sum(gauges(served, "num_requests_waiting")) == 0


def test_sigterm_lets_a_short_answer_end(config: Path, tmp_path: Path) -> None:
    process = GatewayProcess("--config", str(config), log=tmp_path / "drain.log")
    try:
        sock = begin_stream(process, {**BODY, "max_tokens": 100})
        idle = socket.create_connection(("127.0.0.1", process.port), timeout=PATIENCE_S)
        process.signal(signal.SIGTERM)
        said = rest(sock)
        assert b"data: [DONE]" in said or b'data: {"error"' in said
        assert process.wait() == 0
        assert idle.recv(1) == b""
        idle.close()
        sock.close()
    finally:
        process.end()
    assert "Traceback" not in process.log
    assert "What is 17" not in process.log
    assert booked(tmp_path) == [("small", "ok", 100)]


def test_a_sighup_while_it_starts_does_not_end_it(config: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli.main", "serve", "--port", "0", "--config", str(config)],
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=tmp_path,
        )
    until(lambda: "loading" in log.read_text())
    process.send_signal(signal.SIGHUP)
    assert process.stdout is not None
    assert b"serving" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0


def test_a_second_sigterm_ends_the_patience(config: Path, tmp_path: Path) -> None:
    for model in ("small", "large"):
        shutil.copytree(config.parent / model, tmp_path / model)
    patient = tmp_path / "config.toml"
    patient.write_text(config.read_text().replace('drain = "10s"', 'drain = "1h"'))
    process = GatewayProcess("--config", str(patient), log=tmp_path / "hurry.log")
    try:
        # So many that they hardly all end before the second signal.
        socks = [begin_stream(process, {**BODY, "max_tokens": 900}) for _ in range(8)]
        process.signal(signal.SIGTERM)
        # Two signals at once are one.
        until(lambda: "draining" in process.log)
        process.signal(signal.SIGTERM)
        for sock in socks:
            # What they are told is seen in test_serve: here the last words may be cut, if the machine is busy.
            rest(sock)
            sock.close()
        assert process.wait() == 0
    finally:
        process.end()
    rows = booked(tmp_path)
    assert len(rows) == 8
    assert "answers_cut" in process.log or {outcome for _, outcome, _ in rows} == {"ok"}
    assert all(outcome in {"ok", "failed"} and tokens > 0 for _, outcome, tokens in rows)


HOLDERS = ("a client that does not read", pytest.param("a locked ledger", marks=pytest.mark.slow))


@pytest.mark.parametrize("held_by", HOLDERS)
def test_nothing_holds_a_drain_up(config: Path, tmp_path: Path, held_by: str) -> None:
    for model in ("small", "large"):
        shutil.copytree(config.parent / model, tmp_path / model)
    quick = tmp_path / "config.toml"
    quick.write_text(config.read_text().replace('drain = "10s"', 'drain = "100ms"\nwrite_stall = "1h"'))
    process = GatewayProcess("--config", str(quick), log=tmp_path / "held.log")
    other = sqlite3.connect(tmp_path / "ledger.sqlite3", isolation_level=None)
    try:
        many = {**BODY, "n": 8} if held_by == "a client that does not read" else BODY
        sock = begin_stream(process, {**many, "max_tokens": 800})
        if held_by == "a locked ledger":
            other.execute("BEGIN IMMEDIATE")
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        sock.close()
    finally:
        other.close()
        process.end()
    assert "stopped" in process.log


def test_a_crash_is_charged_at_the_next_start(config: Path, tmp_path: Path) -> None:
    process = GatewayProcess("--config", str(config), log=tmp_path / "crash.log")
    with begin_stream(process, {**BODY, "max_tokens": 900}):
        process.end()
    ((rung, outcome, noted),) = booked(tmp_path)
    assert (rung, outcome) == (None, None)
    process = GatewayProcess("--config", str(config), log=tmp_path / "again.log")
    process.end()
    assert booked(tmp_path) == [("", "crashed", noted or 0)]


def test_a_second_gateway_on_the_same_ledger_is_refused(served: GatewayProcess, config: Path) -> None:
    with pytest.raises(AssertionError, match=r"ledger\.sqlite3 is kept by another process"):
        GatewayProcess("--config", str(config), log=config.parent / "second.log")


def test_a_model_that_cannot_be_loaded_is_named(config: Path, tmp_path: Path) -> None:
    shutil.copytree(config.parent / "small", tmp_path / "small")
    shutil.copytree(config.parent / "large", tmp_path / "large")
    (tmp_path / "large" / "model.safetensors").write_bytes(b"\0" * 100)
    (tmp_path / "config.toml").write_text(config.read_text())
    with pytest.raises(AssertionError) as failed:
        GatewayProcess("--config", str(tmp_path / "config.toml"), log=tmp_path / "log")
    said = str(failed.value)
    assert str(tmp_path / "large") in said
    assert "Traceback" not in said
