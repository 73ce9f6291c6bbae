"""Faults of a scenario, through the command."""

import socket
import sys

import pytest

from gateway.cli.load.run import INVALID
from gateway.cli.main import main
from loadtests.model.record_file import read_record
from loadtests.report.run_page import run_page
from tests.loadtests.threaded_server import ThreadedServer

SCENARIO = """
schema = 1
duration = "{seconds}s"
warm_up = "0s"
[target]
url = "http://127.0.0.1:{port}"
[arrivals]
kind = "constant"
rate = 20
[slo]
ttft = "60s"
[proxies.way]
listen = "127.0.0.1:{port}"
to = "{server}"
[[faults]]
kind = "proxy"
name = "<the way is closed>"
at = "1s"
lasts = "1s"
proxy = "way"
mode = "reset"
"""


@pytest.fixture
def free_tcp_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_a_broken_way_is_seen_and_recovers(tmp_path, capsys, free_tcp_port) -> None:
    path, out = tmp_path / "s.toml", tmp_path / "run.json"
    with ThreadedServer() as server:
        path.write_text(SCENARIO.format(seconds=6, port=free_tcp_port, server=server.url.removeprefix("http://")))
        assert main(["load", "run", str(path), "--out", str(out)]) in {0, INVALID}
    (fault,) = read_record(out).faults
    assert (fault.kind, fault.outcome, fault.had_effect, fault.share_before) == ("proxy", "done", True, 1.0)
    assert fault.begin_s >= 1.0
    assert fault.recovered_after_s is not None
    assert fault.recovered_after_s >= fault.end_s - fault.begin_s - 1.0
    said = capsys.readouterr().out
    assert "faults; recovered" in said
    assert "<the way is closed>" in said
    page = run_page(read_record(out))
    assert "&lt;the way is closed&gt;: done" in page
    assert 'class="band"' in page


def test_a_process_of_the_scenario_is_started_and_restarted(tmp_path, free_tcp_port) -> None:
    program, log, out = tmp_path / "program.py", tmp_path / "log", tmp_path / "run.json"
    program.write_text(
        "import http.server\nprint('up', flush=True)\n"
        f"place, handler = ('127.0.0.1', {free_tcp_port}), http.server.SimpleHTTPRequestHandler\n"
        "http.server.HTTPServer(place, handler).serve_forever()\n"
    )
    path, url = tmp_path / "s.toml", f"http://127.0.0.1:{free_tcp_port}"
    path.write_text(
        f'schema = 1\nduration = "1s"\nwarm_up = "0s"\n[target]\nurl = "{url}"\n'
        '[arrivals]\nkind = "constant"\nrate = 10\n'
        f'[processes.server]\ncommand = ["{sys.executable}", "{program}"]\nlog = "log"\nready = "{url}/"\n'
        '[[faults]]\nkind = "restart"\nat = "0.2s"\nprocess = "server"\n'
    )
    assert main(["load", "run", str(path), "--out", str(out)]) in {1, INVALID}  # it has no such API
    (fault,) = read_record(out).faults
    assert fault.kind == "restart"
    assert log.read_text().count("up\n") >= 1
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", free_tcp_port))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--pid", "server"], "expected NAME=PID"),
        (["--pid", "server=x"], "expected NAME=PID"),
        (["--pid", "other=12345"], "no fault is for a process of this name"),
    ],
)
def test_wrong_pids(flags: list[str], words: str, tmp_path, capsys) -> None:
    assert main(["load", "run", "--for", "1s", *flags]) in {1, 2}
    assert words in capsys.readouterr().err


def test_a_process_that_is_not_named(tmp_path, capsys) -> None:
    path = tmp_path / "s.toml"
    path.write_text(
        'schema = 1\n[arrivals]\nrate = 1\n[[faults]]\nkind = "stall"\nat = "1s"\nlasts = "1s"\nprocess = "engine"\n'
    )
    assert main(["load", "run", str(path)]) == 1
    assert "name it by --pid engine=PID" in capsys.readouterr().err
    path.write_text(path.read_text() + '[slo]\nttft = "1s"\n')
    assert main(["load", "sweep", str(path)]) == 2
    assert "a sweep has no faults" in capsys.readouterr().err
