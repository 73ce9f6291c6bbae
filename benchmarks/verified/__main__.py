"""Identity, speed and acceptance on the embedded models. Compare ratios only: other load shifts absolute figures."""

import argparse
import logging
import statistics
from collections import Counter
from pathlib import Path
from time import perf_counter

import structlog
import trio

from benchmarks.verified.acceptance import report as acceptance_report
from benchmarks.verified.breakeven import report as breakeven_report
from benchmarks.verified.service import BenchAnswer, ask_all, embedded_service, prompts
from engine.zoo.train import MODELS


async def _identity(arguments: argparse.Namespace) -> None:
    questions = prompts(arguments.questions, arguments.seed)
    params = {"temperature": arguments.temperature, **({"seed": 11} if arguments.temperature else {})}
    async with embedded_service(cache=True, off_above_batch=arguments.off_above_batch) as service:
        alone = await ask_all(service, "large", questions, arguments.clients, **params)
        checked = await ask_all(service, "verified", questions, arguments.clients, **params)
    same = sum(one.token_ids == other.token_ids for one, other in zip(alone, checked, strict=True))
    print(f"identical token by token: {same} of {len(questions)}")
    print(_drafts(checked))
    if same != len(questions):
        raise SystemExit(1)


def _drafts(answers: list[BenchAnswer]) -> str:
    drafted = sum(answer.served.drafted_tokens for answer in answers)
    accepted = sum(answer.served.accepted_tokens for answer in answers)
    tokens = sum(len(answer.token_ids) for answer in answers)
    whole = sum(answer.served.accepted_tokens == len(answer.token_ids) for answer in answers)
    whys = ", ".join(f"{why} {count}" for why, count in Counter(a.served.why for a in answers).most_common())
    return (
        f"{tokens} tokens, {drafted} drafted, {accepted} accepted ({accepted / max(drafted, 1):.1%} of the drafted, "
        f"{accepted / tokens:.1%} of the answers); whole answers accepted {whole / len(answers):.1%}; {whys}"
    )


async def _speed(arguments: argparse.Namespace) -> None:
    print("| clients | large alone tokens/s | verified tokens/s | ratio | TTFT ms | e2e ms | batch |")
    print("| ---: | ---: | ---: | ---: | --- | --- | ---: |")
    async with embedded_service(
        off_above_batch=arguments.off_above_batch, draft_tokens=arguments.draft_tokens
    ) as service:
        for clients in arguments.batch:
            rates: dict[str, list[float]] = {"large": [], "verified": []}
            waits: dict[str, list[BenchAnswer]] = {"large": [], "verified": []}
            batches: list[int] = []

            async def watch(batches: list[int] = batches) -> None:
                while True:
                    batches.append(service.statistics().queues["large"].inside)
                    await trio.sleep(0.005)

            for turn in range(arguments.rounds):
                questions = prompts(max(arguments.questions, 2 * clients), 100 + turn)
                for model in ("large", "verified") if turn % 2 else ("verified", "large"):
                    async with trio.open_nursery() as nursery:
                        if model == "verified":
                            nursery.start_soon(watch)
                        began = perf_counter()
                        answers = await ask_all(service, model, questions, clients)
                        took = perf_counter() - began
                        nursery.cancel_scope.cancel()
                    rates[model].append(sum(len(answer.token_ids) for answer in answers) / took)
                    waits[model] += answers
            alone, checked = (statistics.median(rates[model]) for model in ("large", "verified"))
            ratios = [b / a for a, b in zip(rates["large"], rates["verified"], strict=True)]
            ttft, e2e = (
                " / ".join(f"{1e3 * statistics.median([getattr(a, what) for a in waits[m]]):.1f}" for m in waits)
                for what in ("ttft_s", "e2e_s")
            )
            print(
                f"| {clients} | {alone:.0f} | {checked:.0f} | {statistics.median(ratios):.2f} | {ttft} | {e2e} | "
                f"{statistics.mean(batches):.1f} |",
                flush=True,
            )
            if arguments.verbose:
                print(_drafts(waits["verified"]))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verified", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    identity = commands.add_parser("identity", help="is every answer the large model's own, token by token?")
    identity.add_argument("--questions", type=int, default=600)
    identity.add_argument("--seed", type=int, default=1)
    identity.add_argument("--clients", type=int, default=8)
    identity.add_argument("--temperature", type=float, default=0.0)
    identity.add_argument("--off-above-batch", type=int, default=4096)
    speed = commands.add_parser("speed", help="the large model alone against verified, interleaved")
    speed.add_argument("--batch", type=int, nargs="+", default=[1, 4, 16, 32])
    speed.add_argument("--rounds", type=int, default=7)
    speed.add_argument("--questions", type=int, default=64)
    speed.add_argument("--draft-tokens", type=int, default=64)
    speed.add_argument("--off-above-batch", type=int, default=4096)
    speed.add_argument("--verbose", action="store_true")
    acceptance = commands.add_parser("acceptance", help="shared noise against min(1, p/q), by temperature")
    acceptance.add_argument("--questions", type=int, default=400)
    acceptance.add_argument("--seed", type=int, default=1)
    breakeven = commands.add_parser("breakeven", help="up to which batch drafts pay, on any two models")
    breakeven.add_argument("--small", type=Path, default=MODELS / "small")
    breakeven.add_argument("--large", type=Path, default=MODELS / "large")
    breakeven.add_argument("--batch", type=int, nargs="+", default=[1, 4, 8, 16, 32])
    breakeven.add_argument("--length", type=int, nargs="+", default=[8, 16])
    breakeven.add_argument("--accepted", type=float, nargs="+", default=[0.8, 0.95])
    breakeven.add_argument("--threads", type=int, default=1)
    breakeven.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.command == "breakeven":
        print(
            breakeven_report(
                arguments.small,
                arguments.large,
                arguments.batch,
                arguments.length,
                arguments.accepted,
                threads=arguments.threads,
                rounds=arguments.rounds,
            )
        )
    elif arguments.command == "acceptance":
        print(acceptance_report(arguments.questions, arguments.seed))
    else:
        trio.run({"identity": _identity, "speed": _speed}[arguments.command], arguments)


if __name__ == "__main__":
    from engine.threads import prepare_environment

    prepare_environment()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    main()
