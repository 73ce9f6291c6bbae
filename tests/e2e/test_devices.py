"""Replicas and ranks in a real process: they answer alike, a lost rank is replaced, and none is left behind."""

import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import write_model
from tests.e2e.process import GatewayProcess
from tests.patience import PATIENCE_S

CONFIG = """
schema = 1
[ledger]
path = "ledger.sqlite3"
"""
ENGINE = """
[engines.{name}]
model = "model"
kv = {{ memory = "2MiB" }}
{lines}
[models.{name}]
[[routes]]
name = "{name}"
when = {{ model = ["{name}"] }}
use = {{ ladder = "{name}" }}
[[ladders.{name}]]
to = "{name}"
retries = 1
"""
ENGINES = {"one": "", "twins": "replicas = 2", "split": "tensor_parallel = 2\nreplicas = 2"}


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("devices")
    write_model(folder / "model", 1)
    engines = [ENGINE.format(name=name, lines=lines) for name, lines in ENGINES.items()]
    (folder / "config.toml").write_text(CONFIG + "".join(engines))
    process = GatewayProcess("--config", "config.toml", log=folder / "log")
    yield process
    process.end()


def ask(process: GatewayProcess, model: str, prompt: str = "What is 17 + 25?") -> str:
    body = {"model": model, "prompt": prompt, "max_tokens": 30, "temperature": 0, "ignore_eos": True}
    request = urllib.request.Request(
        f"{process.url}/v1/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    return json.loads(urllib.request.urlopen(request, timeout=PATIENCE_S).read())["choices"][0]["text"]


def until_ready(process: GatewayProcess, replicas: int) -> None:
    """So many replicas of all engines."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        metrics = urllib.request.urlopen(f"{process.url}/metrics").read().decode()
        states = [line.split()[-1] for line in metrics.splitlines() if line.startswith("penstock:engine_ready{")]
        if states.count("1.0") == replicas:
            return
        assert time.monotonic() < deadline, states
        time.sleep(0.1)


def ranks(process: GatewayProcess) -> set[int]:
    """Processes of ranks that the gateway has started, and that live."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == process._process.pid and b"tensor_parallel.worker" in command:
            found.add(int(folder.name))
    return found


def until_replaced(process: GatewayProcess, lost: int, *, asking: bool) -> None:
    """`asking`: in the meantime the engine is asked. Every prompt is a new one, so that each replica has its turn."""
    deadline = time.monotonic() + PATIENCE_S
    number = 0
    while lost in (alive := ranks(process)) or len(alive) < 2:
        assert time.monotonic() < deadline, alive
        if asking:
            prompt = f"{number} and {number}"
            assert ask(process, "split", prompt) == ask(process, "one", prompt)
            number += 1
        else:
            time.sleep(0.1)


def test_all_say_the_same(process: GatewayProcess) -> None:
    until_ready(process, 5)
    for prompt in ("What is 17 + 25?", "hello", "1 2 3 4 5 6"):
        expected = ask(process, "one", prompt)
        assert len(expected) > 20
        for model in ("twins", "split"):
            assert [ask(process, model, prompt) for _ in range(3)] == [expected] * 3


def test_a_lost_rank_is_replaced_and_nobody_notices(process: GatewayProcess) -> None:
    until_ready(process, 5)
    expected = ask(process, "one")
    before = ranks(process)
    assert len(before) == 2
    for rank, asking in zip(before, (True, False), strict=True):
        # One after the other: there is always a replica that serves, and a retry that reaches it.
        until_ready(process, 5)
        os.kill(rank, signal.SIGKILL)
        until_replaced(process, rank, asking=asking)
        assert [ask(process, "split") for _ in range(4)] == [expected] * 4
    until_ready(process, 5)
    after = ranks(process)
    assert len(after) == 2
    assert not before & after
    assert "tensor_rank_lost" in process.log or "killed by signal 9" in process.log


def test_none_is_left_when_the_gateway_ends(process: GatewayProcess) -> None:
    until_ready(process, 5)
    alive = ranks(process)
    assert len(alive) == 2
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
    assert not any(Path(f"/proc/{rank}").exists() for rank in alive)
