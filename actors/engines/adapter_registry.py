"""Which adapters each engine is to have: loaded and unloaded while it serves, each load under a new version.

A folder is read and prepared in a worker thread, beside the event loop and the engine's steps; the engine only installs
the result, between two steps. A request keeps the version that it began with. The registry outlives the engines' lives.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec
import structlog

from actors.api.errors import Conflict, InvalidRequest, NotFound, Unavailable
from actors.api.statistics import AdapterView
from actors.kernel.actor import Reply
from actors.kernel.errors import ActorDied
from actors.kernel.thread_bridge import WorkerPool
from actors.protocol.job import Install, Uninstall
from actors.queue.dispatcher import ReplicaSlot
from config.model.settings import EngineSettings
from config.model.words import is_adapter_name
from engine.errors import ModelError
from engine.lora.adapters import Adapter, PreparedAdapter, WantedAdapter

log = structlog.get_logger()


Prepared = Mapping[int, PreparedAdapter]
"""By replica: what one has prepared no other can use."""


class AdapterRegistry:
    """The wanted adapters change at once, without an await; then the engines' actors get messages."""

    def __init__(
        self, settings: Mapping[str, EngineSettings], slots: Mapping[str, Sequence[ReplicaSlot]], workers: WorkerPool
    ) -> None:
        """`slots`: the replicas of each engine."""
        self._settings = settings
        self._slots = slots
        self._workers = workers
        self._wanted: dict[str, dict[str, WantedAdapter]] = {
            engine: {name: WantedAdapter(name, 1, each.path) for name, each in given.adapters.items()}
            for engine, given in settings.items()
        }
        self._versions = {(engine, name): 1 for engine, wanted in self._wanted.items() for name in wanted}
        """The last one given out, also of names that are gone: a version never means two things."""

    def apply_settings(self, settings: Mapping[str, EngineSettings]) -> None:
        """The configuration says this now; what is served does not change by it."""
        self._settings = settings

    def wanted(self, engine: str) -> tuple[WantedAdapter, ...]:
        """What an engine that is loaded now is to have."""
        return tuple(self._wanted[engine].values())

    def views(self, engine: str) -> tuple[AdapterView, ...]:
        """Every version in memory, of all replicas together. Raises NotFound."""
        views: dict[tuple[str, int], AdapterView] = {}
        for published in [slot.published for slot in self._replicas(engine)]:
            running = {(use.name, use.version): use.running for use in published.adapter_uses}
            current = {(each.name, each.version): each for each in published.adapters.values()}
            for name, version in {**current, **running}:
                adapter = current.get((name, version))
                if adapter is None and not running[name, version]:
                    continue
                view = views.get((name, version), AdapterView(engine, name, version))
                view = _with(view, adapter, running.get((name, version), 0))
                views[name, version] = self._with_origin(view)
        return tuple(views.values())

    async def load(self, engine: str, name: str, path: Path | None) -> AdapterView:
        """Read the folder and serve it under this name; without a `path`, the folder that the name has now.

        A name that is taken gets a new version. Raises Refusal, and then whatever was served is served on.
        """
        self._replicas(engine)
        if not is_adapter_name(name):
            raise InvalidRequest(
                f"'{name[:100]}' cannot be an adapter's name: 1 to 64 letters, digits, '.', '_' and '-'.",
                code="bad_adapter_name",
            )
        present = self._wanted[engine].get(name)
        if path is None:
            if present is None:
                raise InvalidRequest('The body must say the folder: {"path": ...}.', param="path", code="no_path")
            path = present.path
        if not path.is_absolute():
            raise InvalidRequest("The path must be absolute.", param="path", code="bad_path")
        self._check_room(engine, name)
        await self.put(engine, name, path, await self.read(engine, path))
        version = self._versions[engine, name]
        return next(
            (view for view in self.views(engine) if (view.name, view.version) == (name, version)),
            AdapterView(engine, name, version),
        )

    def _with_origin(self, view: AdapterView) -> AdapterView:
        given = self._settings[view.engine].adapters.get(view.name)
        configured = view.current and given is not None and str(given.path) == view.path
        return msgspec.structs.replace(view, configured=configured)

    async def read(self, engine: str, path: Path) -> Prepared:
        """Once for each replica. Raises Refusal: the folder cannot be served, and why."""
        prepared: dict[int, PreparedAdapter] = {}
        for number, slot in enumerate(self._replicas(engine)):
            read_adapter = slot.published.read_adapter
            if slot.published.state == "failed":
                continue
            if read_adapter is None or slot.published.state != "ready":
                raise _not_ready(engine)
            try:
                prepared[number] = await self._workers.run_in_thread(partial(read_adapter, path))
            except ModelError as error:
                log.warning("adapter_refused", engine=engine, path=str(path), code=error.code, why=error.message)
                raise InvalidRequest(error.message, param="path", code=error.code) from None
        if not prepared:
            raise _not_ready(engine)
        return prepared

    async def put(self, engine: str, name: str, path: Path, prepared: Prepared) -> None:
        """Serve what was read. Requests that begin from now on get it. Raises Refusal."""
        self._check_room(engine, name)
        slots = self._replicas(engine)
        # A replica that is down is loaded with what is wanted; one that is being loaded would miss it.
        if any(slot.published.state == "loading" for number, slot in enumerate(slots) if number not in prepared):
            raise _not_ready(engine)
        version = self._versions[engine, name] = self._versions.get((engine, name), 0) + 1
        self._wanted[engine][name] = WantedAdapter(name, version, path)
        replies = [
            self._tell(slots[number], Install(Adapter(name, version, path, each), Reply()))
            for number, each in prepared.items()
        ]
        await _all(replies)
        log.info("adapter_loaded", engine=engine, adapter=name, version=version, path=str(path))

    async def unload(self, engine: str, name: str) -> None:
        """Requests that begin from now on do not get it; its memory is free when the last of the others has ended.

        Raises Refusal.
        """
        self._replicas(engine)
        if self._wanted[engine].pop(name, None) is None:
            raise NotFound("adapter_not_found", f"The engine {engine} has no adapter '{name[:100]}'.")
        await _all([self._tell(slot, Uninstall(name, Reply())) for slot in self._replicas(engine)])
        log.info("adapter_unloaded", engine=engine, adapter=name)

    def _replicas(self, engine: str) -> Sequence[ReplicaSlot]:
        slots = self._slots.get(engine)
        if slots is None:
            raise NotFound("engine_not_found", f"There is no engine '{engine[:100]}'.")
        return slots

    def _check_room(self, engine: str, name: str) -> None:
        most, wanted = self._settings[engine].max_adapters, self._wanted[engine]
        if name not in wanted and len(wanted) >= most:
            raise Conflict(
                "adapters_full",
                f"The engine {engine} has {len(wanted)} adapters, as many as max_adapters allows; unload one first.",
            )

    @staticmethod
    def _tell(slot: ReplicaSlot, message: Install | Uninstall) -> Reply[None]:
        # Operators ask for these one by one: that bounds them.
        slot.mailbox.put_unbounded(message)
        return message.reply


async def _all(replies: Sequence[Reply[None]]) -> None:
    """Wait until every replica has it. One that dies meanwhile, or is down, gets what is wanted when it is loaded."""
    for reply in replies:
        with suppress(ActorDied):
            await reply.wait()


def _with(view: AdapterView, adapter: Adapter | None, running: int) -> AdapterView:
    """The same, with what one more replica has of it."""
    view = msgspec.structs.replace(view, running=view.running + running)
    if adapter is None:
        return view
    prepared = adapter.prepared
    return msgspec.structs.replace(
        view,
        current=True,
        path=str(adapter.path),
        digest=prepared.digest.hex(),
        rank=prepared.rank,
        memory_bytes=view.memory_bytes + prepared.memory_bytes,
    )


def _not_ready(engine: str) -> Unavailable:
    return Unavailable("engine_not_ready", f"The engine {engine} is not ready; try again.", 1.0)
