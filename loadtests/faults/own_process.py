"""A process that the load tester starts and ends."""

import contextlib
import sys
from subprocess import DEVNULL, PIPE
from types import TracebackType
from typing import Self

import trio

from loadtests.faults.plain_http import ask
from loadtests.faults.signals import TargetProcess
from loadtests.model.errors import RunError
from loadtests.model.faults import ProcessSettings

_ASKS_EVERY_S = 0.1
_ENDING_S = 5.0
"""Beyond the process's own patience."""


class OwnProcess:
    """Enter it to start the process; on leaving it is ended."""

    def __init__(self, name: str, settings: ProcessSettings) -> None:
        self.name = name
        self._settings = settings
        self._keeper: trio.Process | None = None
        self.target: TargetProcess | None = None

    async def __aenter__(self) -> Self:
        """Raises RunError."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True):
            await self.end()

    async def start(self) -> None:
        """Until it is ready. Raises RunError."""
        settings = self._settings
        command = [sys.executable, "-P", "-m", "loadtests.faults.keeper", str(float(settings.patience))]
        with contextlib.ExitStack() as stack:
            log = DEVNULL
            if settings.log is not None:
                try:
                    log = stack.enter_context(settings.log.open("ab")).fileno()
                except OSError as error:
                    raise RunError(f"the log of {self.name}, {settings.log}: {error.strerror or error}") from None
            self._keeper = await trio.lowlevel.open_process(
                [*command, *settings.command], stdin=PIPE, stdout=PIPE, stderr=log, start_new_session=True
            )
        try:
            with trio.fail_after(settings.patience):
                self.target = TargetProcess(self.name, await self._said_pid(self._keeper))
                await self._until_ready()
        except BaseException as error:
            with trio.CancelScope(shield=True):
                await self.end()
            if isinstance(error, trio.TooSlowError):
                raise RunError(f"{self.name} was not ready in {settings.patience:g} s: {settings.ready}") from None
            raise

    async def end(self) -> None:
        """SIGTERM, and SIGKILL after its patience. Nothing if it has ended."""
        keeper, self._keeper = self._keeper, None
        if self.target is not None:
            self.target.close()
            self.target = None
        if keeper is None:
            return
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        await keeper.stdin.aclose()
        with trio.move_on_after(self._settings.patience + _ENDING_S):
            await keeper.wait()
        if keeper.returncode is None:
            keeper.kill()
            await keeper.wait()
        await keeper.stdout.aclose()

    async def restart(self) -> None:
        """Raises RunError."""
        await self.end()
        await self.start()

    async def _said_pid(self, keeper: trio.Process) -> int:
        assert keeper.stdout is not None
        said = b""
        while not said.endswith(b"\n"):
            data = await keeper.stdout.receive_some(1024)
            if not data:
                break
            said += data
        if not said.strip().isdigit():
            words = said.decode(errors="replace").strip().removeprefix("! ") or "it ended at once"
            raise RunError(f"{self.name} cannot be started: {self._settings.command[0]}: {words}")
        return int(said)

    async def _until_ready(self) -> None:
        url, keeper = self._settings.ready, self._keeper
        assert keeper is not None
        while url:
            with contextlib.suppress(OSError):
                status, _ = await ask("GET", url)
                if status == 200:
                    return
            if keeper.poll() is not None:
                where = f"; see {self._settings.log}" if self._settings.log else '; give it a log = "FILE" to see why'
                raise RunError(f"{self.name} ended before it was ready (exit code {keeper.returncode}){where}")
            await trio.sleep(_ASKS_EVERY_S)
