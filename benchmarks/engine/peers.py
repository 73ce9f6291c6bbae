"""Compare Penstock with vLLM, llama.cpp and transformers, over HTTP, on the same weights and the same cores.

    python -m benchmarks.engine.peers [--models 15m 125m 600m] [--workloads W1 W2 W3 W4] [--rounds 3] [--json OUT]
    python -m benchmarks.engine.peers --merge A.json B.json

All installed servers (`make peers`) run at once, but are stopped by a signal except while they are measured; workloads
and rounds are interleaved, so that noise on the machine affects all of them. Greedy, end tokens ignored, prompts of
random token ids that are in no cache. Absent servers are skipped with a message.
"""

import argparse
import contextlib
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.engine.client import ServerError, answers
from benchmarks.engine.floor import floor_tokens_per_s, measure, weights_of
from benchmarks.engine.install_peers import PEERS
from benchmarks.engine.make_model import SHAPES, write
from benchmarks.engine.report import Record, Report
from benchmarks.engine.servers import SERVERS, PeerAbsentError, Server, vocab_of
from benchmarks.engine.workloads import TITLES, BenchRequest, requests_of
from engine.bench import machine

MODELS = PEERS.parent / "models"
_COMPARED_PROMPTS, _COMPARED_TOKENS = 4, 8


def main(words: Sequence[str] | None = None) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end, too
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0], epilog=str(TITLES))
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=["15m", "125m", "600m"])
    parser.add_argument("--workloads", nargs="+", choices=TITLES, default=list(TITLES))
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1, help="of the first round's prompts")
    parser.add_argument("--peers", type=Path, default=PEERS, help="where the peers are installed")
    parser.add_argument("--wait", action="store_true", help="measure when a line comes on standard input")
    parser.add_argument("--json", type=Path, help="write every run there")
    parser.add_argument("--merge", nargs="+", type=Path, metavar="JSON", help="only print what was measured before")
    parser.add_argument("--weights", type=Path, default=MODELS, help="where the random models are, or are written")
    arguments = parser.parse_args(words)
    report = Report(cpu=machine())
    if arguments.merge:
        for path in arguments.merge:
            report.merge(msgspec.json.decode(path.read_bytes(), type=Report))
    else:
        for model in arguments.models:
            _measure(report, model, arguments)
    if arguments.json:
        report.save(arguments.json)
    print(report.table())


def _measure(report: Report, model: str, arguments: argparse.Namespace) -> None:
    directory = arguments.weights / model
    if not (directory / "tokenizer_config.json").exists():
        write(model, directory, "bfloat16")
    vocab, weights = vocab_of(directory), weights_of(directory)
    with tempfile.TemporaryDirectory() as job, contextlib.ExitStack() as stack:
        servers = []
        for name in arguments.servers:
            try:
                server = Server(name, directory, arguments.peers, Path(job), arguments.threads)
                stack.callback(server.end)
                server.wait(vocab)
            except PeerAbsentError as reason:
                _leave_out(report, name, model, str(reason))
                continue
            report.versions[name] = server.version
            servers.append(server)
            print(f"{name} answers", flush=True)
        servers = _compare(report, model, servers, vocab)
        for server in servers:
            server.pause()
        if arguments.wait:
            print("waiting for a line", flush=True)
            input()
        report.machine = rates = measure(arguments.threads)
        for workload in arguments.workloads:
            report.floors[f"{model} {workload}"] = floor_tokens_per_s(
                requests_of(workload, vocab, 0), rates, weights, shared=512 if workload == "W4" else 0
            )
        for turn in range(arguments.rounds):
            for workload in arguments.workloads:
                first = turn % max(len(servers), 1)
                for server in servers[first:] + servers[:first]:
                    server.resume()
                    try:
                        figures, _ = answers(server.port, requests_of(workload, vocab, arguments.seed + turn))
                    except (OSError, ServerError) as error:
                        servers.remove(server)
                        _leave_out(report, server.name, model, f"failed in {workload}: {error}: {server.tail()}")
                        continue
                    server.pause()
                    record = Record(server.name, model, workload, arguments.threads, turn, figures)
                    report.records.append(record)
                    print(
                        f"{model} {workload} {server.name}: {figures.output_tokens_per_s:.0f} tokens/s, "
                        f"TTFT {figures.ttft_ms:.0f}, ITL {figures.itl_ms:.1f} ms",
                        flush=True,
                    )
                    if arguments.json:
                        report.save(arguments.json)
    order = {name: place for place, name in enumerate(arguments.servers)}
    report.records.sort(key=lambda record: order[record.server])


def _leave_out(report: Report, name: str, model: str, reason: str) -> None:
    """Stop measuring this server; earlier results are kept."""
    report.absent[f"{name}, {model}"] = reason
    print(f"{name} is skipped: {reason}", flush=True)


def _compare(report: Report, model: str, servers: list[Server], vocab: int) -> list[Server]:
    """Check that all servers run the same model, and warm them up with a full batch.

    Returns the servers that did not fail.
    """
    whole: list[Server] = []
    tried = [BenchRequest(it.prompt[:24], _COMPARED_TOKENS) for it in requests_of("W2", vocab, 0)[:_COMPARED_PROMPTS]]
    wanted: list[list[int]] = []
    for server in servers:
        try:
            _, given = answers(server.port, tried)
            answers(server.port, [BenchRequest(it.prompt, 8) for it in requests_of("W3", vocab, 0)])
        except (OSError, ServerError) as error:
            _leave_out(report, server.name, model, f"failed at its first prompts: {error}: {server.tail()}")
            continue
        whole.append(server)
        wanted = wanted or given
        same = [_same(*pair) for pair in zip(wanted, given, strict=True)]
        report.agreement[f"{model} {server.name}"] = (
            f"of {_COMPARED_TOKENS} greedy tokens after {len(tried)} prompts the first "
            f"{', '.join(map(str, same))} are {whole[0].name}'s"
        )
    return whole


def _same(one: list[int], other: list[int]) -> int:
    """Number of equal tokens before the first difference."""
    pairs = list(zip(one, other, strict=False))
    return next((place for place, (a, b) in enumerate(pairs) if a != b), len(pairs))


if __name__ == "__main__":
    main()
