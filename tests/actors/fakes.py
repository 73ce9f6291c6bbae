"""A service on the test's own clock: real actors and real engines, without a thread, a model or a file.

Engines are `engine.Engine` on `FakeRunner`, moved by a task instead of a thread. Faults come in through ports: a
runner's script and `on_step`, and the link's `hang`, `load_error` and `step_s`.
"""

import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from actors.api.engine_status import replica_titles
from actors.api.errors import Refusal
from actors.api.request import ChatMessage, ChatPrompt, Credentials, InferenceRequest, ParsedBody, TokenPrompt, View
from actors.api.response import Delta, Done, Failed, ResponseEvent, Start
from actors.engines.engine_thread import EngineLoaded, EngineLoading, LoadFailed
from actors.ledger.store import Committed, LedgerBatch, Opened, Store, StoreBusy, StoreClosed, StoreFailed
from actors.prompt.model_text import ModelText
from actors.protocol.admission import Grant, Settle
from actors.request.response_stream import ResponseStream
from actors.service import Service
from config.load import parse_settings
from config.model.settings import Settings
from config.problems.errors import ConfigError
from config.reader import decode_report, encode_report, report
from config.source import ConfigSource
from engine.core.embedder import Embedder
from engine.core.engine import Engine
from engine.core.loop import Stop
from engine.core.messages import EngineFailed
from engine.errors import EngineError
from engine.model.encoder_config import EmbeddingSizes
from engine.sampling.params import SamplingParams
from engine.scheduling.batch import SampleRow
from engine.testing.fake_encoder import FakeEncoder
from engine.testing.fake_runner import FakeRunner
from engine.text.chat_template import ChatTemplate
from policies.admission.budget import BudgetHold
from policies.admission.quota import Reservation, TenantUse
from tests.engine.tiny_tokenizers import byte_level_tokenizer

PROMPT = (5, 6, 7, 8)
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
CONFIG = """
schema = 1
[ledger]
path = ":memory:"
[engines.small]
model = "small"
max_running = 4
stall = "30s"
[engines.large]
model = "large"
max_running = 4
stall = "30s"
[models.small]
[models.large]
[models.both]
[models.whole]
[tiers.default]
queue = { wait = "20s", requests = 8, tokens = 400_000 }
[[routes]]
name = "small"
when = { model = ["small"] }
use = { ladder = "small-first" }
[[routes]]
name = "large"
when = { model = ["large"] }
use = { ladder = "large-only" }
[[routes]]
name = "both"
when = { model = ["both"] }
use = { cascade = "window" }
[[routes]]
name = "gate"
use = { cascade = "gate" }
[cascades.window]
stages = ["small", "large"]
defer = { statistic = "min_margin", threshold = 1.0 }
emit = { mode = "window", window = 3 }
on_failure = "large-only"
[cascades.gate]
stages = ["small", "large"]
defer = { statistic = "min_margin", threshold = 1.0 }
emit = { mode = "gate" }
on_failure = "large-only"
[[ladders.small-first]]
to = "small"
retries = 1
[[ladders.small-first]]
to = "large"
mark = "fallback"
[[ladders.large-only]]
to = "large"
"""


def settings_of(text: str = CONFIG) -> Settings:
    return parse_settings(text, Path("/nowhere/service.toml"))


def model_text(digest: str = "tiny", sizes: EmbeddingSizes | None = None) -> ModelText:
    template = ChatTemplate(TEMPLATE, {}, origin="test")
    return ModelText(byte_level_tokenizer(), template, digest=digest, template_digest="plain", sizes=sizes)


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


class ClockLink:
    """The step loop as a task."""

    def __init__(self, nursery: trio.Nursery, factory, on_posts, step_s: float, load_s: float) -> None:
        self.step_s = step_s
        self.load_s = load_s
        self.hang = False
        self.engine: Engine | Embedder | None = None
        self.ended = trio.Event()
        self._inbox: deque[Any] = deque()
        self._sent = trio.Event()
        self._on_posts = on_posts
        nursery.start_soon(self._run, factory)

    def send(self, command: Any) -> None:
        self._inbox.append(command)
        self._sent.set()

    def abandon(self) -> None:
        self._on_posts = None

    async def join(self, timeout_s: float) -> bool:
        with trio.move_on_after(timeout_s):
            await self.ended.wait()
        return self.ended.is_set()

    def _post(self, value: Any) -> None:
        if self._on_posts is not None:
            self._on_posts([value])

    async def _run(self, factory) -> None:
        try:
            await trio.sleep(self.load_s)
            try:
                self.engine = engine = factory(lambda what: self._post(EngineLoading(what)))
            except EngineError as error:
                self._post(LoadFailed(error.message))
                return
            self._post(EngineLoaded(engine.limits, engine.stats(), engine.adapters, engine.read_adapter))
            try:
                while await self._drain(engine):
                    await trio.sleep(self.step_s)
                    if not self.hang and self._drain_now(engine):
                        self._post(engine.step())
                engine.abort_all()
                self._post(engine.step())
            except EngineError as error:
                self._post(EngineFailed(error.code, error.message))
            finally:
                engine.close()
        finally:
            self.ended.set()

    async def _drain(self, engine: Engine | Embedder) -> bool:
        while not self._inbox and (self.hang or not engine.has_work):
            self._sent = trio.Event()
            await self._sent.wait()
        if any(isinstance(command, Stop) for command in self._inbox):
            return False
        self._drain_now(engine)
        return True

    def _drain_now(self, engine: Engine | Embedder) -> bool:
        while self._inbox and not isinstance(self._inbox[0], Stop):
            engine.accept(self._inbox.popleft())
        return engine.has_work


class InlineStore:
    """The ledger's file in memory, written at once, unless the links say otherwise."""

    def __init__(self, path, on_posts, workers: "ClockLinks") -> None:
        self._on_posts = on_posts
        self._workers = workers
        self._closed = False
        trio.lowlevel.current_trio_token().run_sync_soon(self._post, Opened(0, workers.store_file.spent(time.time())))

    def send(self, command: Any) -> None:
        if isinstance(command, StoreClosed):
            self._closed = True
            return
        assert isinstance(command, LedgerBatch)
        if self._workers.locked is not None:
            if not self._workers.locked:
                self._post(StoreBusy())
            self._workers.locked.append(partial(self.send, command))
            return
        if self._workers.ledger_errors:
            self._post(StoreFailed(self._workers.ledger_errors.pop()))
            return
        self._workers.store_file.commit(command)
        self._post(Committed())

    def abandon(self) -> None:
        self._on_posts = None

    async def join(self, timeout_s: float) -> bool:
        await trio.lowlevel.checkpoint()
        return self._closed

    def _post(self, post: Any) -> None:
        if self._on_posts is not None:
            self._on_posts([post])


class ClockLinks:
    def __init__(
        self, nursery: trio.Nursery, *, step_s: float = 0.1, load_s: float = 0.0, store: Store | None = None
    ) -> None:
        self._nursery = nursery
        self.step_s = step_s
        self.load_s = load_s
        self.lives: dict[str, list[ClockLink]] = {}
        self.store_file = store or Store(":memory:", "test")
        # Tests read it for as long as they like; from Python 3.13 on nobody but us closes it.
        weakref.finalize(self.store_file, self.store_file._connection.close)
        self.ledger_errors: list[str] = []
        self.locked: list[Callable[[], None]] | None = None
        """What waits while another process holds the file; None: nobody does."""

    def lock(self) -> None:
        self.locked = []

    def unlock(self) -> None:
        waiting, self.locked = self.locked or [], None
        for send in waiting:
            send()

    def engine(self, name, factory, on_posts) -> ClockLink:
        worker = ClockLink(self._nursery, factory, on_posts, self.step_s, self.load_s)
        self.lives.setdefault(name, []).append(worker)
        return worker

    def store(self, path, on_posts) -> InlineStore:
        return InlineStore(path, on_posts, self)

    async def run_in_thread(self, job):
        await trio.lowlevel.checkpoint()
        return job()

    async def read_config(self, path, text=None):
        await trio.lowlevel.checkpoint()
        found = decode_report(encode_report(report(path, text)))
        if found.loaded is None:
            raise ConfigError(found.problems)
        return found.loaded


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
        transport: Any = None,
        source: ConfigSource | None = None,
        record: Path | None = None,
        blocks: int = 256,
        pools: Mapping[str, int] | None = None,
        encoders: Mapping[str, EmbeddingSizes] | None = None,
        **workers: Any,
    ) -> None:
        """`encoders`: which engines make embeddings, of what sizes. `pools`: instead of `blocks`, by engine."""
        self.settings = settings
        self.encoders = dict(encoders or {})
        self.workers = ClockLinks(nursery, **workers)
        self.scripts = dict(scripts)
        self.titles = [
            title for name, each in settings.engines.items() for title in replica_titles(name, each.replicas)
        ]
        self.runners: dict[str, list[FakeRunner | FakeEncoder]] = {title: [] for title in self.titles}
        self.on_step: dict[str, Any] = {}
        self.load_error: dict[str, str] = {}
        self.blocks = blocks
        self._pools = dict(pools or {})
        self.lengths = dict(lengths or {})
        self.service = Service(
            settings,
            {
                name: [self._factory(title) for title in replica_titles(name, each.replicas)]
                for name, each in settings.engines.items()
            },
            texts={name: model_text(sizes=self.encoders.get(name)) for name in settings.engines},
            workers=self.workers,
            transport=transport,
            source=source,
            watches=source is not None,
            record=record,
        )
        self._asked = 0

    def _factory(self, title: str):
        """Faults and runners are the replica's, scripts and settings the engine's."""
        name = title.partition("/")[0]

        def on_step(number: int, batch: Any) -> None:
            if title in self.on_step:
                self.on_step[title](number, batch)

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
            return Engine(runner, byte_level_tokenizer(), self.settings.engines[name], name=name, seed=1)

        return make

    def worker(self, name: str) -> ClockLink:
        return self.workers.lives[name][-1]

    def request(
        self, model: str = "small", *, text: str | None = None, prompts=None, **options: Any
    ) -> InferenceRequest:
        self._asked += 1

        def given(*names: str) -> dict[str, Any]:
            return {name: options.pop(name) for name in names if name in options}

        body = given("n", "grammar", "embedding", "streamed", "truncate_prompt_tokens")
        credentials, view, size = given("api_key", "tags"), given("echo"), given("body_bytes")
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
            answer.refusal = refusal
            return answer
        return await self.read(response, answer)

    async def read(self, response: ResponseStream, answer: Answer | None = None) -> Answer:
        answer = answer or Answer()
        try:
            while events := await response.next_events():
                assert events
                answer.events += events
        except Refusal as refusal:
            answer.refusal = refusal
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
        cursor = self.workers.store_file._connection.execute("SELECT * FROM requests")
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, values, strict=True)) for values in cursor]
        return {row["request_id"]: row for row in rows}

    def quota_use(self, tenant: str = "anonymous") -> TenantUse:
        return self.service._quota.statistics(trio.current_time()).tenants[tenant]

    async def settled(self) -> None:
        """Some messages come quietly, for the next one that wakes: now they have been read."""
        nothing = Settle(Grant(Reservation(-1, "nobody", 0), BudgetHold(-1, "nobody", 0.0, 0.0)), None)
        self.service._admission.put_unbounded(nothing)
        await wait_all_tasks_blocked()

    async def assert_clean(self) -> None:
        """Nothing is left of any request: no block, no reservation, no money set aside, no line, no work, no watch."""
        for _ in range(3):
            await trio.sleep(max(self.workers.step_s * 2, 0.1))
            await wait_all_tasks_blocked()
        service = self.service
        await self.settled()
        statistics = service.statistics()
        assert statistics.in_flight == 0
        assert (statistics.ledger.open, statistics.ledger.pending) == (0, 0)
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
        open_rows = self.workers.store_file._connection.execute("SELECT count(*) FROM requests WHERE closed_at IS NULL")
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
    transport: Any = None,
    source: ConfigSource | None = None,
    record: Path | None = None,
    blocks: int = 256,
    pools: Mapping[str, int] | None = None,
    encoders: Mapping[str, EmbeddingSizes] | None = None,
    **workers: Any,
):
    """A running service; at the end nothing may be left. `source`: it looks there for another policy, too.

    `links`: how fast engines are, and the `store` that is its ledger's file.
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
            transport=transport,
            source=source,
            record=record,
            blocks=blocks,
            pools=pools,
            encoders=encoders,
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
