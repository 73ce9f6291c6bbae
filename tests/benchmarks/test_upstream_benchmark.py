"""The comparison of gateways: its counting, its upstream, its skipping of what is absent, and its table."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.upstream import command
from benchmarks.upstream.figures import Figure, percentile
from benchmarks.upstream.gateways import gateways, install
from benchmarks.upstream.gateways.gateways import Gateway, GatewayAbsentError, Place
from benchmarks.upstream.gateways.processes import Command
from benchmarks.upstream.load import script
from benchmarks.upstream.load.answer_reader import AnswerReader
from benchmarks.upstream.load.client import Fleet, Target
from benchmarks.upstream.load.exchange import Plan
from benchmarks.upstream.load.load_loop import LoadLoop
from benchmarks.upstream.load.pieces import PIECE, PieceCounter
from benchmarks.upstream.load.scripted_upstream import ScriptedUpstream
from benchmarks.upstream.report import Record, Report
from tests.patience import PATIENCE_S

STREAM = script.BEGIN + b"".join(map(script.event, range(3))) + script.end(16, 3, usage=True)


def chunked(*parts: bytes) -> bytes:
    chunks = b"".join([b"%X;x=y\r\n%b\r\n" % (len(part), part) for part in (*parts, b"")])
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks


# A gateway that put two pieces into one event, and cut its chunks anywhere.
MERGED = chunked(b'data: {"content":" token', b" to", b'ken"}\n', b'\ndata: {" token":""}\n', b"\n")
WHOLE = script.whole(16, 3)
CLOSED = b"HTTP/1.1 200 OK\r\n\r\ndata: token token\n\ndata: token"


@pytest.mark.parametrize(
    ("answer", "pieces", "events"), [(STREAM, 3, 7), (MERGED, 3, 2), (WHOLE, 3, 0)], ids=["stream", "merged", "whole"]
)
def test_counts_are_the_same_wherever_the_bytes_are_split(answer: bytes, pieces: int, events: int) -> None:
    splits = [[answer[:place], answer[place:]] for place in range(1, len(answer))]
    splits.append([answer[place : place + 1] for place in range(len(answer))])
    for parts in splits:
        reader = AnswerReader()
        ended = []
        found = 0
        for part in parts:
            found += reader.feed(part)
            ended.append(reader.ended)
        assert (found, reader.pieces, reader.events, reader.problem) == (pieces, pieces, events, "")
        assert ended == [False] * (len(parts) - 1) + [True]


def test_a_missing_event_is_noticed() -> None:
    reader = AnswerReader()
    reader.feed(script.BEGIN + script.event(0) + script.event(1) + script.end(16, 3, usage=False))
    assert reader.ended
    assert reader.pieces == 2


def test_an_answer_without_framing_ends_with_its_connection() -> None:
    for place in range(1, len(CLOSED)):
        reader = AnswerReader()
        reader.feed(CLOSED[:place])
        reader.feed(CLOSED[place:])
        assert not reader.ended
        reader.end_of_connection()
        assert (reader.ended, reader.pieces) == (True, 3)


def test_what_is_no_answer_says_why() -> None:
    refused = AnswerReader()
    refused.feed(b"HTTP/1.1 429 Too Many\r\ncontent-length: 4\r\n\r\nwait")
    assert refused.ended
    assert (refused.problem, refused.shown) == ("http/1.1 429 too many", b"wait")
    broken = AnswerReader()
    broken.feed(chunked(b"x").replace(b"0;x=y", b"no length"))
    assert (broken.ended, broken.problem) == (True, "broken chunks")
    lost = AnswerReader()
    lost.feed(STREAM[:-1])
    lost.end_of_connection()
    assert (lost.ended, lost.problem) == (False, "the connection was lost")


def test_the_counted_piece_is_in_nothing_else_that_is_sent() -> None:
    everything = script.BEGIN + script.end(16, 3, usage=True) + script.whole(16, 0) + script.MODELS + script.UNKNOWN
    counter = PieceCounter()
    assert not counter.feed(everything)
    assert counter.feed(PIECE) == 1


@pytest.fixture
def load() -> LoadLoop:
    loop = LoadLoop()
    yield loop
    loop.close()


@pytest.fixture
def upstream(load: LoadLoop) -> ScriptedUpstream:
    server = ScriptedUpstream(load)
    yield server
    server.close()


@pytest.mark.parametrize(
    "plan",
    [
        Plan(5),
        Plan(5, stream=False),
        Plan(5, interval_s=0.01),
        Plan(1, stream=False, prompt_bytes=2_000_000),
    ],
    ids=["full speed", "whole", "paced", "long"],
)
def test_the_clients_get_from_the_upstream_what_their_plan_says(
    load: LoadLoop, upstream: ScriptedUpstream, plan: Plan
) -> None:
    fleet = Fleet(load, upstream, Target(upstream.port), plan, 3)
    fleet.ask_all()
    assert load.run(PATIENCE_S, lambda: fleet.totals.answers >= 9)
    fleet.repeating = False
    assert load.run(PATIENCE_S, fleet.idle)
    totals = fleet.totals
    assert (totals.lost, totals.failed, totals.retried) == (0, 0, 0)
    assert totals.pieces == plan.events * totals.answers
    for exchange in fleet.ended:
        assert len(exchange.sent) == len(exchange.arrived) == plan.events
        assert all(there > sent for sent, there in zip(exchange.sent, exchange.arrived, strict=True))
    fleet.close()
    assert not upstream.running


def test_a_client_that_leaves_ends_its_stream(load: LoadLoop, upstream: ScriptedUpstream) -> None:
    fleet = Fleet(load, upstream, Target(upstream.port), Plan(1000, interval_s=3600), 2)
    fleet.ask_all()
    assert load.run(PATIENCE_S, lambda: fleet.totals.pieces == 2)
    fleet.close()
    assert load.run(PATIENCE_S, lambda: not upstream.running)


def test_a_peer_that_is_not_installed_is_skipped_with_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.json"
    words = f"--tiny --no-install --rounds 1 --cells latency --peers {tmp_path} --json {out}"
    assert command.main([*words.split(), "--gateways", "smg", "portkey", "litellm", "relay"]) == 0
    printed = capsys.readouterr().out
    for name in ("smg", "portkey", "litellm"):
        assert f"{name} is skipped: not installed: {tmp_path / name}" in printed
    assert "| added latency p50, ms |" in printed
    assert set(json.loads(out.read_text())["report"]["absent"]) == {"smg", "portkey", "litellm"}


def test_a_peer_that_cannot_be_installed_is_skipped_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    words = f"--tiny --rounds 1 --cells latency --peers {tmp_path} --gateways portkey"
    assert command.main(words.split()) == 1
    assert "portkey is skipped: node is not installed" in capsys.readouterr().out


def test_an_installer_that_fails_says_its_last_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = subprocess.CompletedProcess([], 1, "", "much\nno such version\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(GatewayAbsentError, match="installing failed: no such version"):
        install.install("smg", tmp_path)


def test_without_a_sampler_there_is_no_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command.main(f"--tiny --no-install --peers {tmp_path} --profile latency".split()) == 0
    assert capsys.readouterr().out == "no profile: py-spy is not installed\n"


def _dies(code: str) -> object:
    return lambda place: Gateway(Command([sys.executable, "-c", code.format(place=place)]), Target(place.port), "1")


def test_a_peer_that_dies_leaves_the_others_their_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def relay_that_dies(place: Place) -> Gateway:
        # One connection shows that it is up, sixteen warm it up, and the next is measured.
        code = (
            "import os, trio; from benchmarks.upstream.gateways.relay import serve\n"
            "connect, made = trio.open_tcp_stream, []\n"
            "async def counted(*address):\n"
            "    made.append(address)\n"
            "    return await connect(*address) if len(made) <= 17 else os._exit(3)\n"
            "trio.open_tcp_stream = counted\n"
            f"trio.run(serve, {place.port}, {place.upstream_port})"
        )
        return Gateway(Command([sys.executable, "-c", code]), Target(place.port), "1")

    monkeypatch.setitem(gateways.GATEWAYS, "smg", relay_that_dies)
    monkeypatch.setitem(gateways.GATEWAYS, "litellm", _dies("print('no memory')"))
    words = "--tiny --no-install --rounds 1 --cells whole --gateways smg litellm proxy"
    assert command.main(words.split()) == 0
    printed = capsys.readouterr().out
    assert "no figure: smg, whole, round 1: ended" in printed
    assert "litellm is skipped: ended at its start: no memory" in printed
    assert "| whole answers, 1 connection, 1/s |" in printed


def test_the_table_has_medians_sums_of_faults_and_ratios() -> None:
    report = Report(titles={"whole": "whole answers"}, versions={"penstock": "1", "other": "2"})
    for turn, speed in enumerate((40.0, 80.0, 1000.0)):
        for name, times in (("penstock", 1.0), ("other", 0.5)):
            figures = [
                Figure("answers", "1/s", speed * times, "more"),
                Figure("CPU", "ms", 2 / times),
                Figure("lost", "", 1 if name == "other" else 0, fault=True),
            ]
            report.records.append(Record(name, "whole", turn, figures))
    table = report.table()
    assert "| answers, 1/s | 80 | 40 |" in table
    assert "| whole: lost | 0 | 3 |" in table
    assert "| whole: answers | 2.00 |" in table
    assert "| whole: CPU | 2.00 |" in table


def test_percentiles_are_of_the_values() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile(list(range(100)), 0.99) == 99
    assert percentile([], 0.5) == 0
