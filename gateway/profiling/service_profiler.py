"""Measures the time of steps in service, for `penstock engine profile`.

Clients in another process send requests to a server in this one: to each engine alone, then to all together, with
arrivals, prefills, decodes and readers mixed. The engines record the time of every step.
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
from gateway.profiling.measure import TimedEngine, TimedStep, beside
from gateway.profiling.profile import EngineProfile, ServiceCost, ServiceTimes
from gateway.profiling.step_cost_fit import service_of
from policies.model.features import Features
from policies.model.load import Load
from policies.records.trace import TraceRequest, read_trace
from policies.routing.policy import Policy, make_plan

_WORKERS = 8
"""Most workers for each engine."""
_WARM_S = 2.0
_PHASE_S = 4.0
_PAUSE_S = 0.1
_FEWEST = 50
"""Fewest steps for a fit."""


class ArrivalRecordingService(Service):
    """A service that records when requests arrive."""

    def __init__(self, settings: Settings, engines: Mapping[str, Sequence[EngineFactory]], record: Path) -> None:
        super().__init__(settings, engines, record=record)
        self.arrivals: dict[str, list[float]] = {}
        """By model name, in trio's time."""

    async def open(self, request: InferenceRequest) -> ResponseStream:
        self.arrivals.setdefault(request.body.model, []).append(request.arrived_at)
        return await super().open(request)


class LoadMeasurement(msgspec.Struct, frozen=True):
    """The measurements of one load."""

    engines: dict[str, list[TimedEngine]]
    """By engine: its replicas."""
    arrivals: dict[str, list[float]]
    """By engine, in `perf_counter`'s time."""
    requests: dict[str, list[TraceRequest]]
    """By engine, ordered by arrival."""


def probe(
    settings: Settings, engines: Mapping[str, EngineProfile], say: Callable[[str], None]
) -> tuple[dict[str, EngineProfile], ServiceCost]:
    """The engines' profiles with their times in service, and a request's time outside the engines."""
    names = {name: model for name, model in _names(settings).items() if name in engines}
    if settings.keyed or not names:
        say("the service is not measured: that needs a model that only one engine serves, and no keys")
        return dict(engines), ServiceCost()
    workers = {model: min(_WORKERS, settings.engines[name].max_running) for name, model in names.items()}
    for name, model in names.items():
        workers[model] *= settings.engines[name].replicas
    alone = [
        Phase({model: count}, _PHASE_S, _PAUSE_S)
        for model, most_workers in workers.items()
        for count in {1, most_workers}
    ]
    together = [Phase(dict.fromkeys(workers, 1), _PHASE_S, _PAUSE_S), Phase(workers, 2 * _PHASE_S, _PAUSE_S)]
    phases = [*alone, *(together if len(workers) > 1 else [])]
    say(f"measuring in service, with clients: {', '.join(names)}, {sum(phase.seconds for phase in phases):.0f} s")
    try:
        with tempfile.TemporaryDirectory() as folder:
            measured = trio.run(_serve, settings, names, phases, Path(folder) / "recording.jsonl")
    except BaseExceptionGroup as group:
        failures, rest = group.split((CliError, ServiceFailed))
        if failures is None or rest is not None:
            raise
        raise CliError("; ".join(sorted({str(failure) for failure in leaves(failures)}))) from None
    steps = {name: [replica.steps for replica in measured.engines[name]] for name in names}
    profiles = dict(engines)
    for name in names:
        profiles[name] = _served(name, profiles[name], steps, say)
    service = _outside_engines(measured)
    arrival_ms, delivery_ms = 1000 * service.arrival_s, 1000 * service.delivery_s
    say(f"a request takes {arrival_ms:.1f} ms to reach its engine, a token {delivery_ms:.1f} ms to reach the client")
    return profiles, service


async def _serve(settings: Settings, names: Mapping[str, str], phases: list[Phase], record: Path) -> LoadMeasurement:
    """Run a warm-up, discard it, and run the phases."""
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
        name: [partial(load, name, title, replica) for title, replica in replica_settings(name, engine).items()]
        for name, engine in settings.engines.items()
    }
    service = ArrivalRecordingService(settings, factories, record)
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
    requests = {
        name: [request for request in trace if request.model == model][warm[name] :] for name, model in names.items()
    }
    return LoadMeasurement(engines, arrivals, requests)


async def _play(port: int, phases: list[Phase]) -> None:
    command = [sys.executable, "-m", "gateway.profiling.load_client", str(port)]
    done = await trio.run_process(command, stdin=msgspec.json.encode(phases), capture_stdout=True, check=False)
    if done.returncode or not int(done.stdout):
        raise CliError(
            "the test clients got no answer from the server; check that `penstock serve` works with this configuration"
        )


def _served(
    name: str, profile: EngineProfile, steps: Mapping[str, list[list[TimedStep]]], say: Callable[[str], None]
) -> EngineProfile:
    own: list[TimedStep] = []
    disturbed: list[bool] = []
    every_replica = [replica for replicas in steps.values() for replica in replicas]
    for replica in steps[name]:
        own += replica
        disturbed += beside(replica, [other for other in every_replica if other is not replica])
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
        say(f"engine {name} {where}: {len(chosen)} steps took {times:.2f} times their time outside the service")
    alone, among_others = services
    # All variation is in the pauses.
    return msgspec.structs.replace(profile, spread=(1.0,), served=alone or ServiceTimes(), beside=among_others)


def _outside_engines(measured: LoadMeasurement) -> ServiceCost:
    """Medians over all requests of the time before the engine gets a request and after a step has ended."""
    before: list[float] = []
    after: list[float] = []
    for name, replicas in measured.engines.items():
        requests = measured.requests.get(name, [])
        submitted_to = [(at, number, engine) for engine in replicas for number, at in engine.submitted.items()]
        submitted_to.sort(key=itemgetter(0))
        for arrived, request, (submitted, number, engine) in zip(
            measured.arrivals.get(name, []), requests, submitted_to, strict=False
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
    """By engine: a model name whose route leads only to it."""
    policy = Policy.compile(settings)
    models: dict[str, str] = {}
    for model in settings.models:
        features = Features(model=model, tenant="anonymous", tier="default", prompt_tokens=20, max_tokens=200)
        plan = make_plan(policy, features, Load(), 0.0)
        if plan.cascade is None and plan.rungs and plan.rungs[0].to in settings.engines:
            models.setdefault(plan.rungs[0].to, model)
    return models
