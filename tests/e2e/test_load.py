"""`penstock load` against `penstock serve`: every transport, clients as they are, Ctrl-C."""

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.model.record_file import read_record
from loadtests.model.run_record import RunRecord
from tests.e2e.process import GatewayProcess
from tests.paths import ROOT
from tests.patience import PATIENCE_S

INVALID = 3
PEOPLE = """
schema = 1
duration = "1.5s"
warm_up = "0s"
drain = "60s"

[target]
model = "small"

[arrivals]
kind = "constant"
rate = 8

[behaviours.resumes]
reconnect_after_tokens = 1

[behaviours.leaves]
leave_after_tokens = 1

[sessions.talk]
turns = { exactly = 2 }

[[mix]]
name = "socket"
transport = "websocket"
prompt = { exactly = 9 }
output = { exactly = 6 }

[[mix]]
name = "whole"
transport = "whole"
prompt = { exactly = 9 }
output = { exactly = 6 }

[[mix]]
name = "text"
endpoint = "completions"
prompt = { exactly = 9 }
output = { exactly = 6 }

[[mix]]
name = "resumes"
behaviour = "resumes"
prompt = { exactly = 9 }
output = { exactly = 16 }
ignore_eos = true

[[mix]]
name = "leaves"
behaviour = "leaves"
prompt = { exactly = 9 }
output = { exactly = 16 }
ignore_eos = true

[[mix]]
name = "talk"
session = "talk"
prompt = { exactly = 9 }
output = { exactly = 6 }
"""


def load(served: GatewayProcess, words: str, folder: Path) -> RunRecord:
    out = folder / "run.json"
    command = [sys.executable, "-m", "gateway.cli.main", "load", "run", *shlex.split(words)]
    done = subprocess.run(
        [*command, "--url", served.url, "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        cwd=folder,
        check=False,
    )
    assert done.returncode in {0, INVALID}, done.stderr  # on a busy machine the load tester may be late
    return read_record(out)


def test_the_readme_s_first_run(served: GatewayProcess, tmp_path: Path) -> None:
    record = load(served, "--model small --rate 6 --for 1.5s --warm-up 0s --output 8 --prompt 12", tmp_path)
    assert record.failures == ()
    assert record.totals.ok == record.totals.requests > 0
    assert set(record.groups["rung"]) == {"small"}
    assert record.header.server == "penstock"
    assert record.totals.prompt_tokens > 12 * record.totals.ok


def test_people_over_every_transport(served: GatewayProcess, tmp_path: Path) -> None:
    (tmp_path / "people.toml").write_text(PEOPLE)
    record = load(served, "people.toml", tmp_path)
    assert record.failures == ()
    totals = record.totals
    assert totals.ok + totals.left == totals.requests
    kinds = record.groups["kind"]
    assert set(kinds) == {"socket", "whole", "text", "resumes", "leaves", "talk"}
    assert kinds["resumes"].resumed == kinds["resumes"].ok > 0
    assert kinds["leaves"].left > 0
    assert kinds["talk"].ok % 2 == 0


def test_ctrl_c_ends_it_with_what_was_measured(served: GatewayProcess, tmp_path: Path) -> None:
    out = tmp_path / "run.json"
    words = (
        f"load run --url {served.url} --model small --rate 8 --for 1h --warm-up 0s --prompt 9 --output 4 --out {out}"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway.cli.main", *words.split()], stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stderr is not None
    assert "sent" in process.stderr.readline()  # the first line of progress
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 130
    process.stderr.close()
    record = read_record(out)
    assert record.verdict.cut_short
    assert record.totals.ok > 0
    assert record.totals.failed == 0


BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGE = (ROOT / "docs/load-testing.md").read_text()
COMMANDS = [line for block in BLOCK.findall(PAGE) for line in block.splitlines() if line.startswith("penstock load ")]
MADE_HERE = {"run", "check", "schema"}


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.split()[2] in MADE_HERE])
def test_the_page_s_commands(served: GatewayProcess, line: str, tmp_path: Path) -> None:
    line = (
        line.partition(" >")[0].replace("http://127.0.0.1:8080", served.url).replace("loadtests/", f"{ROOT}/loadtests/")
    )
    words = shlex.split(line.partition(" #")[0])[1:]
    for flag in ("--for", "--warm-up"):
        if flag in words:
            words[words.index(flag) + 1] = "1s" if flag == "--for" else "0s"
    process = subprocess.run(
        [sys.executable, "-m", "gateway.cli.main", *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        cwd=tmp_path,
        check=False,
    )
    assert process.returncode in {0, INVALID}, process.stderr
    if "schema" in words:
        json.loads(process.stdout)
