"""A service on the test's own clock: real actors and real engines, without a thread, a model or a file.

Engines are `engine.Engine` on `FakeRunner`, moved by a task instead of a thread. Faults come in through ports: a
runner's script and `on_step`, `Stage.load_error`, and the workers' `hang` and `step_s`.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.api.engine_status import replica_titles
from actors.api.errors import Refusal
from actors.api.request import ChatMessage, ChatPrompt, Credentials, InferenceRequest, ParsedBody, TokenPrompt, View
from actors.api.response import Delta, Done, Failed, ResponseEvent, Start
from actors.kernel.clock import WallClock, system_time
from actors.ledger.store import Store
from actors.prompt.model_text import ModelText
from actors.protocol.admission import Settle
from actors.request.response_stream import EventSink, ResponseStream
from actors.service import Service
from actors.supervision_tree import ActorTypes
from config.model.settings import Settings
from config.source import ConfigSource
from engine.core.embedder import Embedder
from engine.core.engine import Engine
from engine.errors import EngineError
from engine.model.vectors import EmbeddingSizes
from engine.sampling.params import SamplingParams
from engine.scheduling.batch import SampleRow
from engine.testing.fake_encoder import FakeEncoder
from engine.testing.fake_runner import FakeRunner
from engine.text.chat_template import ChatTemplate
from engine.text.reasoning import ReasoningMarkers
from policies.admission.budget import BudgetHold, Grant
from policies.admission.quota import Reservation, TenantUse
from policies.fallback.breaker import BreakerStatistics
from tests.actors.clock_workers import ClockEngineWorker, ClockWorkerThreads, connection
from tests.actors.configuration import CONFIG, settings_of
from tests.engine.tiny_tokenizers import byte_level_tokenizer

PROMPT = (5, 6, 7, 8)
_REAL_STEP_S = 0.005
_REAL_PAUSES = 500
"""On the machine's own clock, until all is clean."""
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"


def _is_virtual() -> bool:
    return isinstance(trio.lowlevel.current_clock(), MockClock)


def model_text(
    digest: str = "tiny",
    sizes: EmbeddingSizes | None = None,
    reasoning: ReasoningMarkers | None = None,
    template: str = TEMPLATE,
) -> ModelText:
    return ModelText(
        byte_level_tokenizer(),
        ChatTemplate(template, {}, origin="test"),
        digest=digest,
        template_digest=template,
        sizes=sizes,
        reasoning=reasoning,
    )


def says(
    text: str, margins: Mapping[int, float] | None = None, *, prompt: int = len(PROMPT)
) -> Callable[[SampleRow], Any]:
    """A runner's script: this text and then the end, after a prompt of so many tokens; margins by output position."""
    tokenizer = byte_level_tokenizer()
    ids = [*tokenizer.encode(text), *tokenizer.eos_ids]
    low = margins or {}

    def script(sample: SampleRow) -> tuple[int, float]:
        place = sample.position - prompt
        return ids[min(place, len(ids) - 1)], low.get(place, 9.0)

    return script


@dataclass
class Answer:
    events: list[ResponseEvent] = field(default_factory=list)
    refusal: Refusal | None = None

    def text(self, index: int = 0) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Delta) and event.index == index)

    def tokens(self, index: int = 0) -> list[int]:
        return [
            token
            for event in self.events
            if isinstance(event, Delta) and event.index == index
            for token in event.token_ids
        ]

    def reasons(self) -> list[str | None]:
        ends = {
            event.index: event.finish_reason
            for event in self.events
            if isinstance(event, Delta) and event.finish_reason
        }
        return [ends[index] for index in sorted(ends)]

    @property
    def start(self) -> Start:
        first = self.events[0]
        assert isinstance(first, Start)
        return first

    @property
    def end(self) -> Any:
        last = self.events[-1]
        assert isinstance(last, Done | Failed)
        return last


class Stage:
    """One service under test."""

    def __init__(
        self,
        nursery: trio.Nursery,
        settings: Settings,
        scripts: Mapping[str, Any],
        lengths: Mapping[str, int] | None = None,
        *,
        network: Any = None,
        source: ConfigSource | None = None,
        record: Path | None = None,
        blocks: int = 256,
        pools: Mapping[str, int] | None = None,
        encoders: Mapping[str, EmbeddingSizes] | None = None,
        actor_types: ActorTypes = ActorTypes(),  # noqa: B008  (frozen)
        wall: WallClock = system_time,
        digest: str = "tiny",
        reasoning: ReasoningMarkers | None = None,
        template: str = TEMPLATE,
        texts: Mapping[str, ModelText] | None = None,
        **workers: Any,
    ) -> None:
        """`reasoning`, `template`: of every engine's text; `texts`: instead, by engine.

        `encoders`: which engines make embeddings, of what sizes. `pools`: instead of `blocks`, by engine.

        `digest`: of the tokenizer.
        """
        self.settings = settings
        self.encoders = dict(encoders or {})
        workers.setdefault("store", Store(":memory:", "test", wall))
        workers.setdefault("step_s", 0.1 if _is_virtual() else _REAL_STEP_S)
        self.workers = ClockWorkerThreads(nursery, **workers)
        self.scripts = dict(scripts)
        self.titles = [
            title for name, each in settings.engines.items() for title in replica_titles(name, each.replicas)
        ]
        self.runners: dict[str, list[FakeRunner | FakeEncoder]] = {title: [] for title in self.titles}
        self.on_step: dict[str, Any] = {}
        self.load_error: dict[str, str] = {}
        self.clocks: dict[str, Callable[[], float]] = {}
        """By replica: what its steps are timed with, instead of the machine's clock."""
        self.blocks = blocks
        self._pools = dict(pools or {})
        self.lengths = dict(lengths or {})
        self.service = Service(
            settings,
            {
                name: [self._factory(title) for title in replica_titles(name, each.replicas)]
                for name, each in settings.engines.items()
            },
            texts={
                name: (texts or {}).get(name) or model_text(digest, self.encoders.get(name), reasoning, template)
                for name in settings.engines
            },
            workers=self.workers,
            network=network,
            source=source,
            watches=source is not None,
            record=record,
            actor_types=actor_types,
            wall=wall,
        )
        self._asked = 0

    def _factory(self, title: str):
        """Faults and runners are the replica's, scripts and settings the engine's."""
        name = title.partition("/")[0]

        def on_step(number: int, batch: Any) -> None:
            if title in self.on_step:
                self.on_step[title](number, batch)

        def clock() -> float:
            return self.clocks.get(title, perf_counter)()

        def make(progress) -> Engine | Embedder:
            progress("waking up")
            if title in self.load_error:
                raise EngineError("model_broken", self.load_error[title])
            if name in self.encoders:
                encoder = FakeEncoder(
                    max_input_tokens=self.lengths.get(name, 64), sizes=self.encoders[name], on_step=on_step
                )
                self.runners[title].append(encoder)
                return Embedder(encoder, self.settings.engines[name], name=name)
            runner = FakeRunner(
                vocab_size=512,
                max_model_len=self.lengths.get(name, 512),
                total_blocks=self._pools.get(name, self.blocks),
                script=self.scripts.get(name),
                on_step=on_step,
            )
            self.runners[title].append(runner)
            return Engine(runner, byte_level_tokenizer(), self.settings.engines[name], name=name, seed=1, clock=clock)

        return make

    def worker(self, name: str) -> ClockEngineWorker:
        return self.workers.lives[name][-1]

    def request(
        self, model: str = "small", *, text: str | None = None, prompts=None, **options: Any
    ) -> InferenceRequest:
        self._asked += 1

        def given(*names: str) -> dict[str, Any]:
            return {name: options.pop(name) for name in names if name in options}

        body = given(
            *("n", "grammar", "embedding", "streamed", "truncate_prompt_tokens", "cache_salt", "cache_key"),
            *("reasoning_tokens", "effort", "effort_field"),
        )
        credentials, view, size = given("api_key", "tags"), given("echo", "explain"), given("body_bytes")
        if prompts is None:
            prompts = (TokenPrompt(PROMPT) if text is None else ChatPrompt((ChatMessage("user", text),)),)
        return InferenceRequest(
            request_id=f"r{self._asked}",
            credentials=Credentials(**credentials),
            body=ParsedBody(
                model=model,
                prompts=prompts,
                params=SamplingParams(**{"max_tokens": 0, "temperature": 0.0, **options}),
                view=View(**view),
                **body,
            ),
            arrived_at=trio.current_time(),
            **size,
        )

    async def open(self, model: str = "small", **options: Any) -> ResponseStream:
        return await self.service.open(self.request(model, **options))

    async def ask(self, model: str = "small", **options: Any) -> Answer:
        answer = Answer()
        try:
            response = await self.open(model, **options)
        except Refusal as refusal:
            answer.refusal = refusal.with_traceback(None)  # it would refer to this frame, and so to itself
            return answer
        return await self.read(response, answer)

    async def read(self, response: ResponseStream, answer: Answer | None = None) -> Answer:
        """As the HTTP handlers do: plain content is taken as it comes, the rest by `next_events`."""
        answer = answer or Answer()

        def emit(events: list[ResponseEvent]) -> bool:
            answer.events += events
            return True

        response.emit_through(EventSink(lambda: True, emit, trio.lowlevel.checkpoint))
        try:
            while events := await response.next_events():
                assert events
                answer.events += events
        except Refusal as refusal:
            answer.refusal = refusal.with_traceback(None)  # it would refer to this frame, and so to itself
        finally:
            response.close()
        return answer

    async def until_ready(self) -> None:
        while not self.service.readiness().ready:  # noqa: ASYNC110
            await trio.sleep(0.01)

    def row(self, request_id: str) -> dict[str, Any]:
        return self.rows()[request_id]

    def rows(self) -> dict[str, dict[str, Any]]:
        """The ledger's, by request."""
        cursor = connection(self.workers.store_file).execute("SELECT * FROM requests")
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, values, strict=True)) for values in cursor]
        return {row["request_id"]: row for row in rows}

    @property
    def restarts(self) -> Mapping[str, int]:
        """By actor."""
        return self.service._supervisor.restarts

    def breaker(self, backend: str) -> BreakerStatistics:
        return self.service._breakers.breakers[backend].statistics()

    def retries_running(self) -> int:
        """With the hedges."""
        service = self.service
        hedges = sum(each.hedges for each in service._upstreams.values())
        return service._breakers.budget.statistics().running + hedges

    def quota_uses(self) -> Mapping[str, TenantUse]:
        """By tenant."""
        return self.service._quota.statistics(trio.current_time()).tenants

    def quota_use(self, tenant: str = "anonymous") -> TenantUse:
        return self.quota_uses()[tenant]

    async def settled(self) -> None:
        """Some messages come quietly, for the next one that wakes: now they have been read."""
        self.wake_admission()
        await wait_all_tasks_blocked()

    def wake_admission(self) -> None:
        """From now until the next checkpoint it is not idle: what is asked waits for its task."""
        nothing = Settle(Grant(Reservation(-1, "nobody", 0), BudgetHold(-1, "nobody", 0.0, 0.0)), None)
        self.service._admission.put_unbounded(nothing)

    async def assert_clean(self) -> None:
        """Nothing is left of any request: no block, no reservation, no money set aside, no line, no work, no watch."""
        virtual = _is_virtual()
        pause_s = max(self.workers.step_s * 2, 0.1) if virtual else 0.01
        for left in reversed(range(3 if virtual else _REAL_PAUSES)):
            await trio.sleep(pause_s)
            await wait_all_tasks_blocked()
            if virtual and left:
                # It costs nothing: something may still come.
                continue
            await self.settled()
            try:
                self._check_clean()
            except AssertionError:
                if not left:
                    raise
            else:
                return

    def _check_clean(self) -> None:
        service = self.service
        statistics = service.statistics()
        assert statistics.in_flight == 0
        assert (statistics.ledger.open, statistics.ledger.pending) == (0, 0)
        assert self.retries_running() == 0
        service._breakers.budget.check_integrity()
        service._quota.check_integrity()
        assert service._quota.statistics(trio.current_time()).open == 0
        service._budgets.check_integrity()
        assert {tenant: view.reserved for tenant, view in statistics.budgets.items() if view.reserved} == {}
        for backend_queue in service._backend_queues.values():
            backend_queue.queue.check_integrity()
            assert (len(backend_queue.queue), backend_queue.queue.in_hand) == (0, 0)
        for title in self.titles:
            engine = self.worker(title).engine
            if engine is not None and not self.worker(title).ended.is_set():
                engine.check_integrity()
                stats = engine.stats()
                assert (stats.free_blocks, stats.running, stats.waiting) == (stats.total_blocks, 0, 0)
        open_rows = connection(self.workers.store_file).execute("SELECT count(*) FROM requests WHERE closed_at IS NULL")
        assert open_rows.fetchone() == (0,)
        assert (
            len(service._timers)
            <= sum(len(backend_queue.slots) for backend_queue in service._backend_queues.values()) + 1
        )


@asynccontextmanager
async def stage(
    scripts: Mapping[str, Any] | None = None,
    *,
    settings: Settings | str = CONFIG,
    ready: bool = True,
    clean: bool = True,
    lengths: Mapping[str, int] | None = None,
    network: Any = None,
    source: ConfigSource | None = None,
    record: Path | None = None,
    blocks: int = 256,
    pools: Mapping[str, int] | None = None,
    encoders: Mapping[str, EmbeddingSizes] | None = None,
    actor_types: ActorTypes = ActorTypes(),  # noqa: B008  (frozen)
    wall: WallClock = system_time,
    **workers: Any,
):
    """A running service; at the end nothing may be left. `source`: it looks there for another policy, too.

    `workers`: how fast engines are, and the `store` that is its ledger's file.
    """
    if source is not None:
        settings = source.read().settings
    if isinstance(settings, str):
        settings = settings_of(settings)
    async with trio.open_nursery() as nursery:
        built = Stage(
            nursery,
            settings,
            scripts or {},
            lengths,
            network=network,
            source=source,
            record=record,
            blocks=blocks,
            pools=pools,
            encoders=encoders,
            actor_types=actor_types,
            wall=wall,
            **workers,
        )
        await nursery.start(built.service.run)
        if ready:
            await built.until_ready()
        yield built
        if clean:
            await built.assert_clean()
        nursery.cancel_scope.cancel()


def pieces(events: Sequence[ResponseEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, Delta)]
