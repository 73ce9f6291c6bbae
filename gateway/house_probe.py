"""What the house adds to its engines' time, seen by a client: for `penstock engine profile`.

A server of its own process answers streams of one engine, one at a time and then several at once, and in the end of
all engines together. What a token takes longer than the engine alone is the house's.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from subprocess import PIPE

import msgspec
import trio

from config.settings import Settings
from gateway.cli_errors import CliError
from gateway.simulation.profile import EngineProfile, HouseCost, StepCost, StepShape
from policies.features import Features
from policies.load import Load
from policies.policy import Policy, make_plan

_STREAMS = 8
_TOKENS = 240
_SHORT = 24
"""Requests for the time to the first token."""
_PROMPT = "What is 17 + 25? Say it in one number, and then say why."
_START_S = 120.0


class Stream(msgspec.Struct, frozen=True):
    """One answer as its reader saw it. Seconds."""

    ttft_s: float
    gap_s: float
    """Between two tokens, in the mean: several may come at once."""
    prompt_tokens: int


def probe(
    config: Path, settings: Settings, engines: Mapping[str, EngineProfile], say: Callable[[str], None]
) -> tuple[dict[str, EngineProfile], HouseCost]:
    """The engines with what the house adds to each of their steps, and what it adds to a request."""
    names = _names(settings)
    rows = min([_STREAMS, *[settings.engines[name].max_running for name in names]])
    if settings.keys or not names:
        say("the house is not measured: no model name without a key leads to one engine alone")
        return dict(engines), HouseCost()
    try:
        return trio.run(_probe, config, names, dict(engines), rows, say)
    except BaseExceptionGroup as group:
        failures, rest = group.split(CliError)
        if failures is None or rest is not None:
            raise
        raise CliError("; ".join(sorted({str(each) for each in _leaves(failures)}))) from None


async def _probe(
    config: Path, names: dict[str, str], engines: dict[str, EngineProfile], rows: int, say: Callable[[str], None]
) -> tuple[dict[str, EngineProfile], HouseCost]:
    command = [sys.executable, "-m", "gateway.cli", "serve", "--config", str(config), "--port", "0"]
    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, [*command, "--log-level", "error"], stdout=PIPE, check=False)
        process = await nursery.start(run)
        port = await _port(process)
        alone: dict[str, float] = {}
        first: list[float] = []
        for engine, model in names.items():
            say(f"engine {engine} behind the house: alone, then {rows} at once")
            short = [await _stream(port, model, 4) for _ in range(_SHORT)]
            one = await _stream(port, model, _TOKENS)
            many = await _together(port, [model] * rows)
            cost = engines[engine].cost
            first.append(median([each.ttft_s for each in short]) - _prefill_s(cost, short[0].prompt_tokens))
            extra_one = one.gap_s - _decode_s(cost, 1, one.prompt_tokens)
            extra_many = _gap(many) - _decode_s(cost, rows, one.prompt_tokens)
            each_row = max((extra_many - max(extra_one, 0.0)) / max(rows - 1, 1), 0.0)
            every_step = max(extra_many - each_row * rows, 0.0)
            say(f"  a step takes {1e6 * every_step:.0f} µs more, and {1e6 * each_row:.0f} µs for each row")
            served = msgspec.structs.replace(cost, fixed=cost.fixed + every_step, per_sample=cost.per_sample + each_row)
            engines[engine] = msgspec.structs.replace(engines[engine], cost=served)
            alone[engine] = _gap(many)
        if len(names) > 1:
            together = await _together(port, [model for model in names.values() for _ in range(rows)])
            for place, engine in enumerate(names):
                own = together[place * rows : (place + 1) * rows]
                beside = max(_gap(own) / alone[engine], 1.0)
                say(f"engine {engine} beside the others: {beside:.2f} times as long a step")
                engines[engine] = msgspec.structs.replace(engines[engine], beside=float(f"{beside:.3g}"))
        process.terminate()
    house = HouseCost(arrival_s=float(f"{max(median(first), 0.0):.3g}"))
    say(f"a request takes {1000 * house.arrival_s:.1f} ms around the engine")
    return engines, house


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def _names(settings: Settings) -> dict[str, str]:
    """By engine: a model name that leads there and nowhere else."""
    policy = Policy.compile(settings)
    found: dict[str, str] = {}
    for model in settings.models:
        features = Features(model=model, tenant="anonymous", tier="default", prompt_tokens=20, max_tokens=_TOKENS)
        plan = make_plan(policy, features, Load(), 0.0)
        if plan.cascade is None and plan.rungs and plan.rungs[0].to in settings.engines:
            found.setdefault(plan.rungs[0].to, model)
    return found


async def _port(process: trio.Process) -> int:
    said = b""
    assert process.stdout is not None
    with trio.move_on_after(_START_S):
        async for piece in process.stdout:
            said += piece
            if match := re.search(rb"serving .* on http://\S+:(\d+)", said):
                return int(match.group(1))
    raise CliError("the server did not start; try `penstock serve` with this configuration")


async def _together(port: int, models: list[str]) -> list[Stream]:
    found: list[Stream | None] = [None] * len(models)

    async def one(place: int, model: str) -> None:
        found[place] = await _stream(port, model, _TOKENS)

    async with trio.open_nursery() as nursery:
        for place, model in enumerate(models):
            nursery.start_soon(one, place, model)
    return [each for each in found if each is not None]


async def _stream(port: int, model: str, tokens: int) -> Stream:
    body = msgspec.json.encode(
        {
            "model": model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": tokens,
            "ignore_eos": True,
            "temperature": 0,
            "messages": [{"role": "user", "content": _PROMPT}],
        }
    )
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    began = trio.current_time()
    times: list[float] = []
    said = b""
    async with await trio.open_tcp_stream("127.0.0.1", port) as connection:
        await connection.send_all(head.encode() + body)
        while piece := await connection.receive_some(65536):
            said += piece
            if b'"content":"' in piece:
                times.append(trio.current_time())
    usage = re.search(rb'"prompt_tokens":(\d+)', said)
    if not times or usage is None:
        raise CliError(f"the server gave no stream: {said[:300]!r}")
    return Stream(times[0] - began, (times[-1] - times[0]) / (tokens - 1), int(usage.group(1)))


def _gap(streams: list[Stream]) -> float:
    return median([each.gap_s for each in streams])


def _decode_s(cost: StepCost, rows: int, prompt: int) -> float:
    return cost.seconds(StepShape(rows, rows, rows, rows * (prompt + _TOKENS // 2), 0.0))


def _prefill_s(cost: StepCost, prompt: int) -> float:
    return cost.seconds(StepShape(prompt, 1, 1, 0, prompt * prompt / 2))
