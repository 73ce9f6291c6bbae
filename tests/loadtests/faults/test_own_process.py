"""Processes of the load tester: started, ready, restarted, ended; and never left behind."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from loadtests.faults.own_process import OwnProcess
from loadtests.model.errors import RunError
from loadtests.model.faults import ProcessSettings
from tests.patience import PATIENCE_S

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/ready" else 404)
        self.end_headers()
    def log_message(self, *words): pass
print("up", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
SLEEPS = (sys.executable, "-c", "import time; time.sleep(1000)")


def is_there(pid: int) -> bool:
    return subprocess.run(["kill", "-0", str(pid)], check=False, capture_output=True).returncode == 0


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def free_port() -> int:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    return port


async def test_it_is_ready_and_ended(tmp_path) -> None:
    port, log = await free_port(), tmp_path / "log"
    settings = ProcessSettings((sys.executable, "-c", SERVER, str(port)), f"http://127.0.0.1:{port}/ready", log=log)
    async with OwnProcess("server", settings) as process:
        first = process.target.pid
        assert is_there(first)
        await process.restart()
        second = process.target.pid
        assert first != second
        assert not is_there(first)
    assert not is_there(second)
    assert log.read_text() == "up\nup\n"


@pytest.mark.parametrize(
    ("command", "ready", "words"),
    [
        (("/no/such/program",), "", "server cannot be started: /no/such/program: No such file"),
        ((sys.executable, "-c", "raise SystemExit(3)"), "http://127.0.0.1:1/", r"before it was ready \(exit code 3\)"),
        (SLEEPS, "http://127.0.0.1:1/", "was not ready in 0.5 s"),
    ],
)
async def test_what_cannot_start_says_so(command, ready: str, words: str) -> None:
    patience = 0.5 if command is SLEEPS else PATIENCE_S
    with pytest.raises(RunError, match=words):
        async with OwnProcess("server", ProcessSettings(command, ready, patience)):
            pass


async def test_one_that_ignores_sigterm_is_killed() -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"
    async with OwnProcess("server", ProcessSettings((sys.executable, "-c", code), patience=0.2)) as process:
        pid = process.target.pid
    assert not is_there(pid)


async def test_a_stalled_one_is_ended() -> None:
    async with OwnProcess("server", ProcessSettings(SLEEPS)) as process:
        pid = process.target.pid
        process.target.send(signal.SIGSTOP)
    assert not is_there(pid)
