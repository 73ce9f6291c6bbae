"""A process that the load tester starts and ends."""

import contextlib
import sys
from subprocess import DEVNULL, PIPE
from types import TracebackType
from typing import Self

import trio
from trio.lowlevel import open_process

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
        self._wrapper: trio.Process | None = None
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
        command = [sys.executable, "-P", "-m", "loadtests.faults.wrapper_process", str(float(settings.patience))]
        with contextlib.ExitStack() as stack:
            log = DEVNULL
            if settings.log is not None:
                try:
                    log = stack.enter_context(settings.log.open("ab")).fileno()
                except OSError as error:
                    raise RunError(f"the log of {self.name}, {settings.log}: {error.strerror or error}") from None
            self._wrapper = await open_process(
                [*command, *settings.command], stdin=PIPE, stdout=PIPE, stderr=log, start_new_session=True
            )
        try:
            with trio.fail_after(settings.patience):
                self.target = TargetProcess(self.name, await self._said_pid(self._wrapper))
                await self._until_ready()
        except BaseException as error:
            with trio.CancelScope(shield=True):
                await self.end()
            if isinstance(error, trio.TooSlowError):
                raise RunError(f"{self.name} was not ready in {settings.patience:g} s: {settings.ready}") from None
            raise

    async def end(self) -> None:
        """SIGTERM, and SIGKILL after its patience. Nothing if it has ended."""
        wrapper, self._wrapper = self._wrapper, None
        if self.target is not None:
            self.target.close()
            self.target = None
        if wrapper is None:
            return
        assert wrapper.stdin is not None
        assert wrapper.stdout is not None
        await wrapper.stdin.aclose()
        with trio.move_on_after(self._settings.patience + _ENDING_S):
            await wrapper.wait()
        if wrapper.returncode is None:
            wrapper.kill()
            await wrapper.wait()
        await wrapper.stdout.aclose()

    async def restart(self) -> None:
        """Raises RunError."""
        await self.end()
        await self.start()

    async def _said_pid(self, wrapper: trio.Process) -> int:
        assert wrapper.stdout is not None
        said = b""
        while not said.endswith(b"\n"):
            data = await wrapper.stdout.receive_some(1024)
            if not data:
                break
            said += data
        if not said.strip().isdigit():
            words = said.decode(errors="replace").strip().removeprefix("! ") or "it ended at once"
            raise RunError(f"{self.name} cannot be started: {self._settings.command[0]}: {words}")
        return int(said)

    async def _until_ready(self) -> None:
        url, wrapper = self._settings.ready, self._wrapper
        assert wrapper is not None
        while url:
            with contextlib.suppress(OSError):
                status, _ = await ask("GET", url)
                if status == 200:
                    return
            if wrapper.poll() is not None:
                where = f"; see {self._settings.log}" if self._settings.log else '; give it a log = "FILE" to see why'
                raise RunError(f"{self.name} ended before it was ready (exit code {wrapper.returncode}){where}")
            await trio.sleep(_ASKS_EVERY_S)
