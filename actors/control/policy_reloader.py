"""Changes the policy while it serves: every way to do so ends here, one attempt after the other.

A changed file is noticed by comparing its content once a second: that works on every file system, and needs no thread
or library of its own. A file that is still being written is left alone until two comparisons agree. It is read in a
process of its own, so that a large one delays no answer.

If the actor dies in the middle of an attempt, the next life makes it once more. If it is off, the last good policy
stays in force, and only a restart of the server changes it.
"""

import math
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Literal, Protocol

import msgspec
import structlog
import trio

from actors.api.errors import Refusal
from actors.api.statistics import PolicyStatistics
from actors.engines.adapter_registry import AdapterRegistry
from actors.kernel.actor import Mailbox, Reply
from actors.kernel.clock import WallClock
from actors.kernel.thread_bridge import WorkerPool
from actors.routing.router import PolicySnapshot
from config.check.keys import given_twice
from config.load import LoadedConfig
from config.model.settings import Settings
from config.parse.keys_file import BadKeysFile, read_keys_file
from config.problems.errors import ConfigError, ConfigReaderError, Problem
from config.source import ConfigSource
from policies.lifecycle.reload import Change, ReloadRefused, ReloadResult, Swapped, Unchanged, compare, restart_problems

ReloadTrigger = Literal["signal", "file", "admin"]
_LOOK_EVERY_S = 1.0
_UNREAD_S = 10.0
"""After this time files are read again of which the reader has failed."""
_MOST_LOGGED = 20
log = structlog.get_logger()


class ConfigProcess(WorkerPool, Protocol):
    """Starts the process that reads a configuration."""

    async def read_config(self, path: Path, text: str | None = None) -> LoadedConfig:
        """Read and check a configuration, or the text that `path` could hold. Raises ConfigError, ConfigReaderError."""
        ...


class PolicyStatus:
    """Outlives the reloader's restarts."""

    __slots__ = ("problems", "reloads", "since", "warnings")

    def __init__(self, since: float) -> None:
        self.since = since
        """When the policy that decides began to, seconds since 1970."""
        self.reloads: Counter[str] = Counter(swapped=0, unchanged=0, refused=0)
        self.problems: tuple[Problem, ...] = ()
        """Why the last attempt was refused; empty if it was not."""
        self.warnings: tuple[Problem, ...] = ()
        """Of the policy that decides."""

    def statistics(self, policy: str) -> PolicyStatistics:
        """`policy`: the digest of the one that decides."""
        return PolicyStatistics(policy, self.since, dict(self.reloads))


class Reload(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Read the configuration again, and swap the policy if it is good."""

    asked_by: ReloadTrigger
    reply: Reply[ReloadResult] | None = None


class ApplyKeys(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The keys file was changed: what is in it is to be in force, whatever else the configuration says now."""

    reply: Reply[bool]
    """Set to whether it is."""


ReloaderMessage = Reload | ApplyKeys


class _Read(msgspec.Struct, frozen=True):
    """The result of reading the files."""

    stamp: str
    change: Change = Change((), ())
    snapshot: PolicySnapshot | None = None
    """None: the policy is unchanged or invalid."""
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    unread: bool = False
    """The problems are not in the files."""


class PolicyReloader:
    """Handles `ReloaderMessage`. Its published status outlives its restarts."""

    redelivered: ClassVar[tuple[type, ...]] = (Reload, ApplyKeys)
    """Handled twice, the second attempt finds nothing changed."""

    def __init__(
        self,
        mailbox: Mailbox[ReloaderMessage],
        published: PolicyStatus,
        *,
        source: ConfigSource,
        snapshot: Callable[[], PolicySnapshot],
        make_snapshot: Callable[..., PolicySnapshot],
        apply_settings: Callable[[PolicySnapshot], None],
        registry: AdapterRegistry,
        workers: ConfigProcess,
        watches: bool,
        wall: WallClock,
    ) -> None:
        """`snapshot`: the policy in force; `apply_settings` gives another one to every owner, without an await."""
        self._wall = wall
        self.mailbox = mailbox
        self._published = published
        self._source = source
        self._snapshot = snapshot
        self._make_snapshot = make_snapshot
        self._apply_settings = apply_settings
        self._registry = registry
        self._workers = workers
        self._watches = watches
        self._tried = ""
        """The stamp of the last configuration read, valid or not; "": it is to be read again."""
        self._seen = ""
        self._rests_until = -math.inf

    async def run(self) -> None:
        begun = await self._read(self._snapshot())
        # The files may have changed since the policy in force was read from them.
        self._seen, self._tried = begun.stamp, "" if begun.problems or begun.snapshot is not None else begun.stamp
        self._published.warnings = begun.warnings
        while True:
            with trio.move_on_after(_LOOK_EVERY_S if self._watches else float("inf")):
                await self.mailbox.ready()
            if not len(self.mailbox):
                await self._look()
            for _ in range(len(self.mailbox)):
                message = self.mailbox.take()
                await self.on(message)
            self.mailbox.done()

    async def on(self, message: ReloaderMessage) -> None:
        match message:
            case Reload(asked_by, reply):
                result = await self.reload(asked_by)
                if reply is not None:
                    reply.set(result)
            case ApplyKeys(reply):
                reply.set(await self._apply_keys())

    async def reload(self, asked_by: ReloadTrigger) -> ReloadResult:
        """Read and check in another process, compile in another thread, swap in the loop."""
        published = self._published
        before = self._snapshot()
        read = await self._read(before)
        self._tried = read.stamp
        if read.unread:
            self._tried, self._rests_until = "", trio.current_time() + _UNREAD_S
        if read.problems:
            # A key that was revoked must not stay valid because something else in the files is wrong.
            await self._apply_keys()
            return self._refuse(read.problems, asked_by)
        published.problems, published.warnings = (), read.warnings
        if read.snapshot is None:
            published.reloads["unchanged"] += 1
            return Unchanged(before.policy.digest)
        try:
            # New adapters are loaded before the swap; adapters that only the old policy names are unloaded after it.
            await self._load_adapters(before.settings, read.snapshot.settings)
        except Refusal as refusal:
            return self._refuse(self._at_adapters(refusal), asked_by)
        self._apply_settings(read.snapshot)
        await self._unload_adapters(before.settings, read.snapshot.settings)
        published.since = self._wall()
        result = Swapped(read.snapshot.policy.digest, before.policy.digest, read.change.live)
        published.reloads["swapped"] += 1
        log.info(
            "policy_reloaded",
            asked_by=asked_by,
            policy=result.policy,
            before=result.before,
            count=len(result.changed),
            changed=result.changed[:_MOST_LOGGED],
        )
        return result

    async def _apply_keys(self) -> bool:
        """Put into force what the keys file has. False: it cannot be used, and nothing has changed."""
        path = self._snapshot().settings.admin.keys_file
        if path is None:
            return False
        try:
            stored = await self._workers.run_in_thread(lambda: read_keys_file(path))
        except BadKeysFile as error:
            log.error("keys_refused", why=str(error))  # noqa: TRY400  (the words are all that there is to it)
            return False
        before = self._snapshot()
        if twice := given_twice(before.settings, stored):
            log.error("keys_refused", why="keys are in the configuration, too, or twice in the file", keys=twice)
            return False
        if stored != before.settings.admin.stored:
            self._apply_settings(before.with_stored(stored))
        return True

    async def _load_adapters(self, before: Settings, after: Settings) -> None:
        """All or none. Raises Refusal."""
        loaded = []
        for engine, settings in after.engines.items():
            for name, adapter in settings.adapters.items():
                if before.engines[engine].adapters.get(name) != adapter:
                    loaded.append((engine, name, adapter.path, await self._registry.read(engine, adapter.path)))
        for each in loaded:
            await self._registry.put(*each)

    async def _unload_adapters(self, before: Settings, after: Settings) -> None:
        for engine, settings in before.engines.items():
            for name in settings.adapters.keys() - after.engines[engine].adapters.keys():
                # An operator may have unloaded it before.
                with suppress(Refusal):
                    await self._registry.unload(engine, name)

    def _at_adapters(self, refusal: Refusal) -> tuple[Problem, ...]:
        message = f"an adapter cannot be loaded: {refusal.body.message}"
        return (Problem(file=self._source.path, line=0, column=0, where="engines.*.adapters", message=message),)

    async def _read(self, before: PolicySnapshot) -> _Read:
        """The stamp is taken first, so that a change during the reading is noticed later."""
        stamp = await self._stamp()
        try:
            loaded = self._source.finished(await self._workers.read_config(self._source.path))
            change = compare(before.settings, loaded.settings)
            if change.restart:
                return _Read(stamp, change, problems=restart_problems(change, self._source.path))
            snapshot = None
            if change.live:
                snapshot = await self._workers.run_in_thread(lambda: self._make_snapshot(loaded.settings))
            return _Read(stamp, change, snapshot, warnings=loaded.warnings)
        except ConfigError as error:
            return _Read(stamp, problems=error.problems, unread=isinstance(error, ConfigReaderError))
        except Exception as error:
            # Faults that the checks have missed must not end the reloader.
            log.exception("policy_not_compiled")
            message = f"it cannot be compiled ({type(error).__name__}: {error})"
            return _Read(
                stamp, problems=(Problem(file=self._source.path, line=0, column=0, where="", message=message),)
            )

    def _refuse(self, problems: tuple[Problem, ...], asked_by: ReloadTrigger) -> ReloadRefused:
        published = self._published
        published.problems = problems
        published.reloads["refused"] += 1
        shown = [str(problem) for problem in problems[:_MOST_LOGGED]]
        serving = self._snapshot().policy.digest
        log.error("policy_refused", asked_by=asked_by, serving=serving, count=len(problems), problems=shown)
        return ReloadRefused(serving, problems)

    async def _look(self) -> None:
        stamp = await self._stamp()
        settled, self._seen = stamp == self._seen, stamp
        if settled and stamp != self._tried and trio.current_time() >= self._rests_until:
            # As a message, so that it is redelivered if this life ends.
            self.mailbox.put_unbounded(Reload("file"))

    async def _stamp(self) -> str:
        settings = self._snapshot().settings
        return await self._workers.run_in_thread(lambda: self._source.stamp(settings))
