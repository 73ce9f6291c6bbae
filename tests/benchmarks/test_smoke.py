"""Every benchmark still runs: each command, made as small as it goes, and what it must have printed.

Figures are not looked at. A benchmark without a row here fails `test_every_benchmark_has_a_row`.
"""

import os
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from benchmarks.engine import floor, peers
from benchmarks.engine.client import answers
from benchmarks.engine.make_model import write
from benchmarks.engine.servers import SERVERS, Command, Place, Server
from benchmarks.engine.workloads import BenchRequest
from engine.kernels.simd import has_bfloat16_products
from tests.paths import ROOT
from tests.patience import PATIENCE_S

ROWS: dict[str, tuple[str, str]] = {
    "benchmarks.actors_path": ("--requests 64 --tokens 400", "tokens, 200 streams"),
    "benchmarks.policies_decision": ("--batches 2 --batch 8", "breaker: permit + record"),
    "benchmarks.request_path": ("", "actors/request/response_stream.py"),
    "benchmarks.reload": ("--streams 4 --seconds 2 --rounds 1", "p50"),
    "benchmarks.gateway": (
        "--rounds 1 --kinds service --seconds 0.1 --streams 2 2 2 --idle-streams 4 --first-events 3",
        "memory a silent stream",
    ),
    "benchmarks.gateway.batch": ("--rounds 1 --seconds 0.5 --requests 2000", "left for it:"),
    "benchmarks.gateway.rescue_gap": ("--kills 1 --tokens 100 --arrangements next", "| 0 of 1 |"),
    "benchmarks.gateway.workers": ("--seconds 0.2 --workers 2 --in-flight 2", "| 2 |"),
    "benchmarks.gateway.rendering": ("--rounds 1 --events 10", "| responses |"),
    "benchmarks.gateway.hand_over": ("--rounds 1 --steps 20", "run_sync_soon"),
    "benchmarks.upstream": (
        "--tiny --no-install --rounds 1 --gateways penstock relay --cells whole paced many memory",
        "| memory: resident at",
    ),
    "benchmarks.engine.attention": ("--calls 2", "| int8 |"),
    "benchmarks.engine.invariance": ("{model} --rounds 1", "plain torch, batch_invariant"),
    "benchmarks.engine.make_model": ("tiny {folder}/made", "parameters, bfloat16"),
    "benchmarks.engine.overhead": ("--rounds 1 --streams 1 2 --vocab 64", "plan, build, report"),
    "benchmarks.engine.quantization": ("--questions 2 --conversations 1 --no-parity", "| large | int4/64 |"),
    "benchmarks.engine.quantized_products": (
        "--seconds 0 --rows 1 --shapes 1 --threads 1 --megabytes 8",
        "| 4096 × 768 | bf16 |",
    ),
    "benchmarks.engine.several": ("--plans turns-1 --seconds 0.3 --streams 1", "| turns-1 |"),
    "benchmarks.loadtests": ("--streams 2 --seconds 0.5 --events 10", "| 2 |"),
    "benchmarks.loadtests.overload": ("--seconds 1 --overloads", "| 1 × capacity |"),
    "benchmarks.loadtests.sweeps": (
        "--fixed --sweeps 1 --most-runs 1 --for 0.5s --slo ttft=60s --keep {folder}/sweeps",
        "how far they are apart cannot be said",
    ),
    "benchmarks.policies.check": ("--sizes 4,8", "by tag"),
    "benchmarks.policies.simulate_vs_real": (
        "--seconds 2 --rate 4 --runs 1 --profile {folder}/profile.json --keep {folder}/kept",
        "| answered by large % |",
    ),
    "benchmarks.window": ("--questions 3", "| mixed |"),
    "benchmarks.verified identity": ("--questions 3", "3"),
    "benchmarks.verified speed": ("--batch 1 --rounds 1 --questions 1", "| 1 |"),
    "benchmarks.verified acceptance": ("--questions 2", "|"),
    "benchmarks.verified breakeven": ("--batch 1 --length 8 --accepted 0.8 --rounds 1", "|"),
}
ELSEWHERE = {
    "benchmarks.engine.gpu": "tests/benchmarks/test_gpu_benchmark.py",
    "benchmarks.engine.peers": "below",
    "benchmarks.engine.install_peers": "installs other servers from the package index",
    "benchmarks.engine.to_gguf": "runs in a peer's environment",
    "benchmarks.engine.transformers_server": "runs in a peer's environment",
    "benchmarks.gateway.serve": "is started by benchmarks.gateway",
    "benchmarks.loadtests.fixed_streams": "is started by benchmarks.loadtests",
    "benchmarks.upstream.gateways.http_proxy": "is started by benchmarks.upstream",
    "benchmarks.upstream.gateways.relay": "is started by benchmarks.upstream",
}
HALF = {"benchmarks.engine.quantization"}
"""They compute in bfloat16."""
NO_HALF = "this processor does not compute in bfloat16"
pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules.*:RuntimeWarning")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "tiny"
    write("tiny", directory, "bfloat16")
    return directory


@pytest.fixture
def run(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str, str], str]:
    def run(name: str, words: str) -> str:
        module, *command = name.split()
        given = words.format(folder=tmp_path, model=model).split()
        # Of engines so small that the embedded models' memory holds them.
        assumed = (ROOT / "benchmarks/policies/assumed.json").read_text()
        (tmp_path / "profile.json").write_text(
            re.sub(r'"kv_token_bytes": \d+', '"kv_token_bytes": 256, "kv_bytes": 16777216', assumed)
        )
        monkeypatch.setattr(sys, "argv", [module, *command, *given])
        monkeypatch.chdir(ROOT)
        status: object = None
        cores, logging = os.sched_getaffinity(0), structlog.get_config()
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            status = end.code
        finally:
            os.sched_setaffinity(0, cores)
            structlog.configure(**logging)
        # One is the verdict of a benchmark that judges its own figures: they are not looked at here.
        assert status in {None, 0, 1}
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("name", ROWS)
def test_it_runs(name: str, run: Callable[[str, str], str]) -> None:
    words, printed = ROWS[name]
    if name in HALF and not has_bfloat16_products():
        pytest.skip(NO_HALF)
    assert printed in run(name, words)


def test_every_benchmark_has_a_row() -> None:
    commands = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        for path in (ROOT / "benchmarks").rglob("*.py")
        if 'if __name__ == "__main__":' in path.read_text()
    }
    assert commands == {name.split()[0] for name in ROWS} | ELSEWHERE.keys()


def _dies(place: Place) -> Command:
    """Answers nothing and ends."""
    return Command([sys.executable, "-c", "print('no model')"], "dies 1")


def test_a_peer_that_has_ended_can_be_paused_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SERVERS, "dies", _dies)
    server = Server("dies", tmp_path, tmp_path, tmp_path, 1)
    server._process.wait(PATIENCE_S)
    server.pause()
    server.resume()
    server.end()
    server.end()


class Failing(Server):
    """Has answered, and fails when it is measured."""

    def __init__(self, name: str, *_: object) -> None:
        self.name, self.version, self.ended, self.port = name, "1", False, 1

    def wait(self, vocab: int) -> None: ...

    def tail(self) -> str:
        return "its last words"

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def end(self) -> None:
        self.ended = True


@pytest.mark.skipif(not has_bfloat16_products(), reason=NO_HALF)
def test_a_peer_that_dies_while_it_is_measured_leaves_the_others_their_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Server

    def server(name: str, *arguments: Path, threads: int = 1) -> Server:
        return Failing(name) if name == "vllm" else real(name, arguments[0], arguments[1], arguments[2], 1)

    monkeypatch.setattr(floor, "_READ_FLOATS", 1 << 16)
    monkeypatch.setattr(peers, "Server", lambda name, *rest: server(name, *rest[:3]))
    calls = iter([True, True])  # of the peer: it answers its first two prompts, and then no more

    def answered(port: int, requests: list[BenchRequest]) -> object:
        if port == 1:
            if next(calls, False):
                return None, [[1]] * len(requests)
            raise ConnectionResetError("gone")
        return answers(port, requests)

    monkeypatch.setattr(peers, "answers", answered)
    out = tmp_path / "report.json"
    words = f"--models tiny --workloads W1 --rounds 1 --servers penstock vllm --weights {tmp_path} --json {out}"
    peers.main(words.split())
    printed = capsys.readouterr().out
    assert "vllm, tiny skipped: failed in W1: gone: its last words" in printed
    assert "| W1 | penstock |" in printed
    assert out.exists()
