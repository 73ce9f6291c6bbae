"""Keeps the policy that decides: every way to change it ends here, one attempt after the other.

A changed file is noticed by looking at its content once a second: that works on every file system, and needs no thread
or library of its own. A file that is still being written is left alone until two looks agree.
"""

import time
from collections.abc import Callable

import msgspec
import structlog
import trio

from actors.links import Links
from actors.mail import AskedBy, Reload
from actors.mailbox import Mailbox
from actors.policy_board import PolicyBoard
from actors.rules import Rules
from config.errors import ConfigError, Problem
from config.source import ConfigSource
from policies.reload import Change, Refused, ReloadResult, Swapped, Unchanged, compare, restart_problems

_LOOK_EVERY_S = 1.0
_MOST_PROBLEMS_LOGGED = 20
log = structlog.get_logger()


class _Read(msgspec.Struct, frozen=True):
    """What the files say now."""

    stamp: str
    change: Change = Change((), ())
    rules: Rules | None = None
    """None: there is nothing to swap."""
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


class PolicyKeeper:
    """Obeys `Reload`. What it publishes outlives its restarts."""

    def __init__(
        self,
        mailbox: Mailbox[Reload],
        board: PolicyBoard,
        *,
        source: ConfigSource,
        rules: Callable[[], Rules],
        make_rules: Callable[..., Rules],
        adopt: Callable[[Rules], None],
        links: Links,
        watches: bool,
    ) -> None:
        """`rules`: those that hold now; `adopt` puts others into all books at once, without a wait in between."""
        self.mailbox = mailbox
        self._board = board
        self._source = source
        self._rules = rules
        self._make_rules = make_rules
        self._adopt = adopt
        self._links = links
        self._watches = watches
        self._tried = ""
        """The stamp of what was read last, good or bad."""
        self._seen = ""

    async def run(self) -> None:
        """Until cancelled."""
        begun = await self._read(self._rules())
        self._tried = self._seen = begun.stamp
        self._board.warnings = begun.warnings
        while True:
            with trio.move_on_after(_LOOK_EVERY_S if self._watches else float("inf")):
                await self.mailbox.ready()
            if not len(self.mailbox):
                await self._look()
            for _ in range(len(self.mailbox)):
                message = self.mailbox.take()
                result = await self.reload(message.asked_by)
                if message.reply is not None:
                    message.reply.set(result)
            self.mailbox.done()

    async def reload(self, asked_by: AskedBy) -> ReloadResult:
        """Read and check in another process, compile in another thread, swap in the loop."""
        board = self._board
        before = self._rules()
        read = await self._read(before)
        self._tried = read.stamp
        if read.problems:
            return self._refuse(read.problems, asked_by)
        board.problems, board.warnings = (), read.warnings
        if read.rules is None:
            board.reloads["unchanged"] += 1
            return Unchanged(before.policy.digest)
        self._adopt(read.rules)
        board.since = time.time()
        result = Swapped(read.rules.policy.digest, before.policy.digest, read.change.live)
        board.reloads["swapped"] += 1
        log.info(
            "policy_reloaded", asked_by=asked_by, policy=result.policy, before=result.before, changed=result.changed
        )
        return result

    async def _read(self, before: Rules) -> _Read:
        """The stamp comes first: what changes while we read is seen as a change again."""
        stamp = await self._stamp()
        try:
            loaded = self._source.finished(await self._links.read_config(self._source.path))
            change = compare(before.settings, loaded.settings)
            if change.restart:
                return _Read(stamp, change, problems=restart_problems(change, self._source.path))
            rules = None
            if change.live:
                rules = await self._links.beside(lambda: self._make_rules(loaded.settings))
            return _Read(stamp, change, rules, warnings=loaded.warnings)
        except ConfigError as error:
            return _Read(stamp, problems=error.problems)
        except Exception as error:
            # A hole in the checks must not take down what serves.
            log.exception("policy_not_compiled")
            message = f"it cannot be compiled ({type(error).__name__}: {error})"
            return _Read(
                stamp, problems=(Problem(file=self._source.path, line=0, column=0, where="", message=message),)
            )

    def _refuse(self, problems: tuple[Problem, ...], asked_by: AskedBy) -> Refused:
        board = self._board
        board.problems = problems
        board.reloads["refused"] += 1
        shown = [str(problem) for problem in problems[:_MOST_PROBLEMS_LOGGED]]
        serving = self._rules().policy.digest
        log.error("policy_refused", asked_by=asked_by, serving=serving, count=len(problems), problems=shown)
        return Refused(serving, problems)

    async def _look(self) -> None:
        stamp = await self._stamp()
        settled, self._seen = stamp == self._seen, stamp
        if settled and stamp != self._tried:
            await self.reload("file")

    async def _stamp(self) -> str:
        settings = self._rules().settings
        return await self._links.beside(lambda: self._source.stamp(settings))
