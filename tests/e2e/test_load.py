"""`penstock load` against `penstock serve`: every transport, clients as they are, Ctrl-C."""

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from loadtests.model.record_file import encode_record, read_record
from loadtests.model.run_record import RunHost, RunRecord
from loadtests.sweeping.sweep_record import encode_sweep
from tests.e2e.process import GatewayProcess
from tests.loadtests.report.test_sweep_page import a_sweep
from tests.loadtests.synthetic_runs import even_run
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
    # On a busy machine a whole answer may come at once, with nothing left to resume.
    assert 0 < kinds["resumes"].resumed <= kinds["resumes"].ok
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


PAGE = (ROOT / "docs/load-testing.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:15:{46 + n}.000000,{300 - n},60\n" for n in range(5)
)
SHORTER = {"--for": "1s", "--warm-up": "0s", "--longest-prompt": "20", "--longest-output": "8"}
MORE = {"sweep": ["--most-runs", "2"]}
PASSES = {
    "run": {0, INVALID},
    "replay": {0, INVALID},
    "sweep": {0, 1, INVALID},  # what is found in two seconds is nothing
    "compare": {0, 1, INVALID},
}
SOON = {'"40s"': '"2s"', '"5s"': '"0s"', '"12s"': '"0.2s"', '"24s"': '"1s"', '"2s"\nproxy': '"0.3s"\nproxy'}


@pytest.mark.sample(4)
@pytest.mark.parametrize("block", BLOCKS, ids=[block.split("\n")[0][:60] for block in BLOCKS])
def test_the_page_s_commands(served: GatewayProcess, block: str, tmp_path: Path) -> None:
    """Those of a block in their order, with files for those that read what other blocks write."""
    for name in ("RUN", "FAULTS"):
        (tmp_path / f"{name}.json").write_bytes(encode_record(even_run()))
    for part in (1, 2, 3):
        (tmp_path / f"part{part}.json").write_bytes(encode_record(part_of_run(part)))
    (tmp_path / "SWEEP.json").write_bytes(encode_sweep(a_sweep()))
    (tmp_path / "TRACE.csv").write_text(TRACE)
    for line in block.splitlines():
        if line.startswith("penstock load "):
            command(served, line, tmp_path)


def part_of_run(part: int) -> RunRecord:
    record = even_run()
    header = msgspec.structs.replace(record.header, hosts=(RunHost(f"host{part}", part, 3, 1000.0, 0.001),))
    return msgspec.structs.replace(record, header=header)


def command(served: GatewayProcess, line: str, folder: Path) -> None:
    words = shlex.split(line.partition(" #")[0].partition(" > ")[0])[1:]
    words = [word.replace("http://127.0.0.1:8080", served.url) for word in words]
    for place, word in enumerate(words):
        if word in SHORTER:
            words[place + 1] = SHORTER[word]
        if word.startswith("loadtests/"):
            words[place] = str(ROOT / word)
        if word.endswith("broken-way.toml"):
            words[place] = str(sooner(served, ROOT / word, folder))
            words = [each for each in words if each not in {"--for", "1s", "30s"}]
            break
    process = subprocess.run(
        [sys.executable, "-m", "gateway.cli.main", *words, *MORE.get(words[1], [])],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        cwd=folder,
        check=False,
    )
    assert process.returncode in PASSES.get(words[1], {0}), process.stderr
    assert "Traceback" not in process.stderr
    if "schema" in words:
        json.loads(process.stdout)


def sooner(served: GatewayProcess, scenario: Path, folder: Path) -> Path:
    """The scenario with its faults within two seconds, before the server of the test."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    text = scenario.read_text().replace(":8080", f":{served.port}").replace(":9000", f":{port}")
    for old, new in SOON.items():
        text = text.replace(old, new)
    path = folder / "sooner.toml"
    path.write_text(text)
    return path
