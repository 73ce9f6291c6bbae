"""What a tenant has used, and which experiments are over, is known after a SIGKILL."""

import json
import re
import signal
import sqlite3
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.process import GatewayProcess
from tests.e2e.test_process import BODY, begin_stream
from tests.patience import PATIENCE_S

QUOTA = """
[tenants.anonymous]
tokens = { per_day = 4_000 }
"""
EXPERIMENT = """
[[experiments]]
name = "try"
route = ["small"]
unit = "request"
arms = { control = 50, b = 50 }
override.b = { "routes.small.use" = { ladder = "large-first" } }
"""


@pytest.fixture
def own(config: Path, tmp_path: Path) -> Path:
    """A configuration of its own, and thereby a ledger of its own."""
    text = config.read_text()
    for name in ("small", "large"):
        text = text.replace(f'model = "{name}"\nkv', f'model = "{config.parent / name}"\nkv')
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def ask(process: GatewayProcess, **fields: object) -> tuple[int, dict[str, str], dict[str, object]]:
    body = json.dumps({**BODY, "stream": False, **fields}).encode()
    request = urllib.request.Request(f"{process.url}/v1/chat/completions", body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, dict(response.headers), json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), json.load(error)


def admin(process: GatewayProcess, path: str, data: bytes | None = None) -> object:
    found = re.search(r"admin API on (http://\S+)/admin", process.said())
    assert found is not None
    with urllib.request.urlopen(f"{found[1]}/admin/{path}", data) as response:
        return json.load(response)


def kill(process: GatewayProcess) -> None:
    process.signal(signal.SIGKILL)
    process.wait()
    process.end()


def await_closed(ledger: Path, rows: int) -> None:
    """Until so many requests have their end in the file."""
    deadline = time.monotonic() + PATIENCE_S
    with closing(sqlite3.connect(ledger)) as books:
        while (found := books.execute("SELECT count(*) FROM requests WHERE closed_at NOT NULL").fetchone()[0]) < rows:
            assert time.monotonic() < deadline, found
            time.sleep(0.01)


def test_the_day_s_tokens_survive_a_kill_in_mid_load(own: Path, tmp_path: Path) -> None:
    own.write_text(own.read_text() + QUOTA)
    first = GatewayProcess("--config", str(own), log=tmp_path / "first.log")
    try:
        assert ask(first, max_tokens=300)[0] == 200
        # Ends are written in groups, within a twentieth of a second.
        await_closed(tmp_path / "ledger.sqlite3", 1)
        streams = [begin_stream(first, {**BODY, "max_tokens": 900}) for _ in range(3)]
    finally:
        kill(first)
    for each in streams:
        each.close()
    books = sqlite3.connect(tmp_path / "ledger.sqlite3")
    charged, still_open = books.execute(
        "SELECT sum(CASE WHEN completion_tokens IS NULL THEN 0 ELSE prompt_tokens + completion_tokens END), "
        "sum(closed_at IS NULL) FROM requests"
    ).fetchone()
    books.close()
    assert still_open >= 1, "it was killed in mid-load"
    most = charged + 50
    own.write_text(own.read_text().replace("4_000", str(most)))
    second = GatewayProcess("--config", str(own), log=tmp_path / "second.log")
    try:
        status, headers, body = ask(second, max_tokens=51)
        assert status == 429, body
        assert "retry-after" in headers
        error = body["error"]
        assert isinstance(error, dict)
        assert error["code"] == "tokens_per_day_exceeded"
        assert f"{most} tokens per day of tenant anonymous is reached: {charged} in use" in error["message"]
        # What is left is left.
        assert ask(second, max_tokens=10)[0] == 200
        assert "ledger_restored" in second.log
    finally:
        second.end()


@pytest.mark.slow
def test_a_roll_back_survives_a_kill_and_ends_with_its_text(own: Path, tmp_path: Path) -> None:
    own.write_text(own.read_text() + EXPERIMENT)
    first = GatewayProcess("--config", str(own), "--admin-port", "0", log=tmp_path / "first.log")
    try:
        assert {ask(first, max_tokens=2)[1]["x-penstock-arm"] for _ in range(20)} == {"try/control", "try/b"}
        admin(first, "experiments/try/roll_back", b"")
    finally:
        kill(first)
    second = GatewayProcess("--config", str(own), "--admin-port", "0", log=tmp_path / "second.log")
    try:
        assert {ask(second, max_tokens=2)[1]["x-penstock-arm"] for _ in range(20)} == {"try/control"}
        assert "rolled back by an operator" in json.dumps(admin(second, "experiments"))
        assert any("ledger_restored" in line and '["try"]' in line for line in second.log.splitlines())
    finally:
        kill(second)
    own.write_text(own.read_text().replace("control = 50, b = 50", "control = 40, b = 60"))
    third = GatewayProcess("--config", str(own), log=tmp_path / "third.log")
    try:
        assert {ask(third, max_tokens=2)[1]["x-penstock-arm"] for _ in range(20)} == {"try/control", "try/b"}
    finally:
        third.end()
