"""What the service makes of its engines' time: for `penstock engine profile`.

A server in this process is asked by clients of another one, as in service: each engine alone, then all together, with
arrivals, prefills, decodes and readers mixed. The engines keep the time of every step.
"""

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from statistics import mean, median
from time import perf_counter

import msgspec
import trio

from actors.api.request import InferenceRequest
from actors.engines.engine_thread import EngineFactory
from actors.kernel.errors import ServiceFailed
from actors.request.response_stream import ResponseStream
from actors.service import Service
from config.model.settings import EngineSettings, Settings
from engine.core.loop import Stepping
from engine.load import load_engine
from gateway.app import serve
from gateway.engine_factories import replica_settings
from gateway.errors import CliError, leaves
from gateway.http.server import listen
from gateway.profiling.load_client import Phase
from gateway.profiling.profile import EngineProfile, ServiceCost, ServiceTimes
from gateway.profiling.step_cost_fit import service_of
from gateway.profiling.timed_engine import TimedEngine, TimedStep, beside
from policies.model.features import Features
from policies.model.load import Load
from policies.records.trace import TraceRequest, read_trace
from policies.routing.policy import Policy, make_plan

_WORKERS = 8
"""At most, for each engine."""
_WARM_S = 2.0
_PHASE_S = 4.0
_PAUSE_S = 0.1
_FEWEST = 50
"""Steps that say something."""


class Visited(Service):
    """A service that keeps the time of its visitors."""

    def __init__(self, settings: Settings, engines: Mapping[str, Sequence[EngineFactory]], record: Path) -> None:
        super().__init__(settings, engines, record=record)
        self.arrivals: dict[str, list[float]] = {}
        """By the model's name: in trio's time."""

    async def open(self, request: InferenceRequest) -> ResponseStream:
        """See `Service`."""
        self.arrivals.setdefault(request.body.model, []).append(request.arrived_at)
        return await super().open(request)


class Seen(msgspec.Struct, frozen=True):
    """What one load showed."""

    engines: dict[str, list[TimedEngine]]
    """Each one's replicas."""
    arrivals: dict[str, list[float]]
    """By engine, in `perf_counter`'s time."""
    requests: dict[str, list[TraceRequest]]
    """By engine, in order of arrival."""


def probe(
    settings: Settings, engines: Mapping[str, EngineProfile], say: Callable[[str], None]
) -> tuple[dict[str, EngineProfile], ServiceCost]:
    """The engines with what becomes of their steps in service, and what a request takes around them."""
    names = {name: model for name, model in _names(settings).items() if name in engines}
    if settings.keys or not names:
        say("the service is not measured: no model name without a key leads to one engine alone")
        return dict(engines), ServiceCost()
    workers = {model: min(_WORKERS, settings.engines[name].max_running) for name, model in names.items()}
    for name, model in names.items():
        workers[model] *= settings.engines[name].replicas
    alone = [Phase({model: count}, _PHASE_S, _PAUSE_S) for model, most in workers.items() for count in {1, most}]
    together = [Phase(dict.fromkeys(workers, 1), _PHASE_S, _PAUSE_S), Phase(workers, 2 * _PHASE_S, _PAUSE_S)]
    phases = [*alone, *(together if len(workers) > 1 else [])]
    say(f"behind the service, with clients: {', '.join(names)}, {sum(each.seconds for each in phases):.0f} s")
    try:
        with tempfile.TemporaryDirectory() as folder:
            seen = trio.run(_serve, settings, names, phases, Path(folder) / "recording.jsonl")
    except BaseExceptionGroup as group:
        failures, rest = group.split((CliError, ServiceFailed))
        if failures is None or rest is not None:
            raise
        raise CliError("; ".join(sorted({str(each) for each in leaves(failures)}))) from None
    steps = {name: [each.steps for each in seen.engines[name]] for name in names}
    found = dict(engines)
    for name in names:
        found[name] = _served(name, found[name], steps, say)
    service = _around(seen)
    there, back = 1000 * service.arrival_s, 1000 * service.delivery_s
    say(f"a request takes {there:.1f} ms to its engine, and what it makes {back:.1f} ms back")
    return found, service


async def _serve(settings: Settings, names: Mapping[str, str], phases: list[Phase], record: Path) -> Seen:
    """Play a warm-up, forget it, and play the phases."""
    engines: dict[str, list[TimedEngine]] = {name: [] for name in settings.engines}

    def load(name: str, title: str, replica: EngineSettings, progress: Callable[[str], None]) -> Stepping:
        if name not in names:
            return load_engine(replica, title, progress)
        engine = TimedEngine.load(replica, title, progress)
        engines[name].append(engine)
        return engine

    books = msgspec.structs.replace(settings.ledger, path=":memory:")
    settings = msgspec.structs.replace(settings, ledger=books)
    factories = {
        name: [partial(load, name, title, replica) for title, replica in replica_settings(name, each).items()]
        for name, each in settings.engines.items()
    }
    service = Visited(settings, factories, record)
    listener = listen("127.0.0.1", 0)
    ready = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, service, settings, listener, ready.set)
        await ready.wait()
        port = listener.getsockname()[1]
        await _play(port, [Phase(dict.fromkeys(names.values(), 1), _WARM_S)])
        warm = {name: len(service.arrivals[model]) for name, model in names.items()}
        for replicas in engines.values():
            for engine in replicas:
                engine.forget()
        await _play(port, phases)
        nursery.cancel_scope.cancel()
    offset = perf_counter() - trio.current_time()
    arrivals = {name: [at + offset for at in service.arrivals[model][warm[name] :]] for name, model in names.items()}
    trace = read_trace(record)
    requests = {name: [each for each in trace if each.model == model][warm[name] :] for name, model in names.items()}
    return Seen(engines, arrivals, requests)


async def _play(port: int, phases: list[Phase]) -> None:
    command = [sys.executable, "-m", "gateway.profiling.load_client", str(port)]
    done = await trio.run_process(command, stdin=msgspec.json.encode(phases), capture_stdout=True, check=False)
    if done.returncode or not int(done.stdout):
        raise CliError("the server gave the probe's clients no answer; try `penstock serve` with this configuration")


def _served(
    name: str, profile: EngineProfile, steps: Mapping[str, list[list[TimedStep]]], say: Callable[[str], None]
) -> EngineProfile:
    own: list[TimedStep] = []
    disturbed: list[bool] = []
    for mine in steps[name]:
        own += mine
        disturbed += beside(mine, [each for replicas in steps.values() for each in replicas if each is not mine])
    services: list[ServiceTimes | None] = []
    for among in (False, True):
        chosen = [step for step, is_beside in zip(own, disturbed, strict=True) if is_beside is among]
        if len(chosen) < _FEWEST:
            services.append(None)
            continue
        took = [step.period for step in chosen]
        cost = profile.cost
        services.append(service_of(cost, [step.shape for step in chosen], took))
        times = mean(took) / mean([cost.seconds(step.shape) for step in chosen])
        where = "beside others" if among else "by itself"
        say(f"engine {name} {where}: {len(chosen)} steps took {times:.2f} times their time without a service")
    alone, among_others = services
    # The pauses hold all that varies.
    return msgspec.structs.replace(profile, spread=(1.0,), served=alone or ServiceTimes(), beside=among_others)


def _around(seen: Seen) -> ServiceCost:
    """Before the engine has it, and after a step has ended: in the middle of all requests."""
    before: list[float] = []
    after: list[float] = []
    for name, replicas in seen.engines.items():
        requests = seen.requests.get(name, [])
        submitted_to = [(at, number, engine) for engine in replicas for number, at in engine.submitted.items()]
        submitted_to.sort(key=itemgetter(0))
        for arrived, request, (submitted, number, engine) in zip(
            seen.arrivals.get(name, []), requests, submitted_to, strict=False
        ):
            out = engine.first_out.get(number)
            if out is not None and request.ttft_s is not None:
                before.append(submitted - arrived)
                after.append(arrived + request.ttft_s - out)
    if not before:
        return ServiceCost()
    arrival, delivery = max(median(before), 0.0), max(median(after), 0.0)
    return ServiceCost(arrival_s=float(f"{arrival:.3g}"), delivery_s=float(f"{delivery:.3g}"))


def _names(settings: Settings) -> dict[str, str]:
    """By engine: a model name that leads there and nowhere else."""
    policy = Policy.compile(settings)
    found: dict[str, str] = {}
    for model in settings.models:
        features = Features(model=model, tenant="anonymous", tier="default", prompt_tokens=20, max_tokens=200)
        plan = make_plan(policy, features, Load(), 0.0)
        if plan.cascade is None and plan.rungs and plan.rungs[0].to in settings.engines:
            found.setdefault(plan.rungs[0].to, model)
    return found
