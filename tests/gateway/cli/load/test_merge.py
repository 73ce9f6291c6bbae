"""A run that two processes share as two hosts would, begun at a time and merged."""

import datetime as dt
import subprocess
import sys

import pytest

from gateway.cli.load.run import INVALID
from gateway.cli.main import main
from loadtests.model.latency_histogram import merged
from loadtests.model.record_file import encode_record, read_record
from tests.loadtests.synthetic_runs import even_run
from tests.loadtests.threaded_server import ThreadedServer
from tests.patience import PATIENCE_S

TOO_LATE = "before the workers were ready"
LATER = "is over"


@pytest.fixture
def server():
    with ThreadedServer() as server:
        yield server


def shared(server: ThreadedServer, folder, wait_s: float) -> list[str]:
    """What two commands said."""
    start = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=wait_s)
    words = f"--url {server.url} --rate 50 --for 0.5s --warm-up 0s --arrivals constant --start-at {start.isoformat()}"
    command = [sys.executable, "-m", "gateway.cli.main", "load", "run", *words.split()]
    commands = [[*command, "--part", f"{part}/2", "--out", str(folder / f"{part}.json")] for part in (1, 2)]
    hosts = [subprocess.Popen(each, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for each in commands]
    return [host.communicate(timeout=PATIENCE_S)[1] for host in hosts]


def test_two_hosts_send_what_one_would(server, tmp_path, capsys) -> None:
    wait_s = 3.0
    while any(TOO_LATE in said or LATER in said for said in shared(server, tmp_path, wait_s)):
        wait_s *= 2  # a busy machine
        server.asked.clear()
    parts = [read_record(tmp_path / f"{part}.json") for part in (1, 2)]
    assert [{row.number % 2 for row in part.rows} for part in parts] == [{0}, {1}]
    files = [str(tmp_path / f"{part}.json") for part in (2, 1)]
    assert main(["load", "merge", *files, "--out", str(tmp_path / "run.json")]) in {0, INVALID}
    assert "25 sent: 25 whole" in capsys.readouterr().out
    whole = read_record(tmp_path / "run.json")
    assert [row.number for row in whole.rows] == list(range(25))
    assert len(server.asked) == 25
    assert whole.totals.latencies.ttft.buckets == merged(part.totals.latencies.ttft for part in parts).buckets
    assert [host.part for host in whole.header.hosts] == [1, 2]
    assert len({host.begun_at for host in whole.header.hosts}) == 1
    assert main(["load", "report", str(tmp_path / "run.json")]) == 0
    assert "part 2 of 2" in (tmp_path / "run.html").read_text()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--part 0/2", "expected such as 2/3"),
        ("--part 3/2", "expected such as 2/3"),
        ("--part x", "expected such as 2/3"),
        ("--part 1/2", "--part needs --start-at"),
        ("--start-at noon", "expected a time with its zone, such as 2"),
        ("--start-at 2026-05-01T12:00:00", "expected a time with its zone"),
        ("--start-at 2000-01-01T00:00:00Z", LATER),
        ("--start-at 2999-01-01T00:00:00Z", "is more than a day away"),
    ],
)
def test_flags_that_make_no_sense(flags: str, words: str, capsys) -> None:
    assert main(["load", "run", *flags.split()]) == 2
    assert words in capsys.readouterr().err


def test_what_cannot_be_merged(tmp_path, capsys) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(encode_record(even_run()))
    assert main(["load", "merge", str(path), "--out", str(path)]) == 2
    assert "is one of the parts" in capsys.readouterr().err
    assert main(["load", "merge", str(path), "--out", str(tmp_path / "b.json")]) == 2
    assert "is no part of a run" in capsys.readouterr().err
