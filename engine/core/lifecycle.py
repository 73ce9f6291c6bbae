"""What all engines have in common: their end, the outputs between two steps, and the frame of a step."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import TypeVar

from engine.errors import EngineDead, EngineError, RequestRefused
from engine.lora.adapters import AdapterUse
from engine.messages import EngineStats, SequenceOutput, StepReport, failed_output

T = TypeVar("T")


class EngineBase(ABC):
    """An engine ends once, by a failed step or by being closed, and stays ended: every later call raises the reason."""

    def __init__(self, name: str, clock: Callable[[], float], release: Callable[[], None]) -> None:
        """`release`: releases the runner; a second call does nothing."""
        self.name = name
        self._clock = clock
        self._release = release
        self._end: EngineDead | None = None
        self._pending_outputs: list[SequenceOutput] = []
        """Outputs of sequences that ended between two steps; the next report carries them."""
        self._steps = 0
        self._step_s = 0.0
        self._step_tokens = 0
        self._prompt_tokens = 0

    @property
    @abstractmethod
    def has_work(self) -> bool:
        """Whether a step would compute or report anything."""

    @abstractmethod
    def stats(self) -> EngineStats:
        """Current counters."""

    @abstractmethod
    def abort(self, sequence_id: int) -> None:
        """Drop a sequence and free its blocks; unknown or finished ids are ignored."""

    @abstractmethod
    def _unfinished(self) -> Iterable[int]:
        """The ids of all sequences that have no finish yet."""

    @abstractmethod
    def _compute(self, outputs: list[SequenceOutput]) -> tuple[AdapterUse, ...]:
        """Compute one batch and append its outputs. Returns the adapters in memory."""

    def step(self) -> StepReport:
        """Compute one batch, and report everything that happened since the last report. Raises EngineDead."""
        self._check_alive()
        started = self._clock()
        outputs, self._pending_outputs = self._pending_outputs, []
        self._step_tokens = 0
        adapters = self._compute(outputs)
        self._step_s = self._clock() - started
        return StepReport(tuple(outputs), self.stats(), adapters)

    def abort_all(self) -> None:
        """Drop every sequence, before the engine is closed."""
        for sequence_id in list(self._unfinished()):
            self.abort(sequence_id)

    def close(self) -> None:
        """End the engine and release the runner; an earlier failure stays the reason of the end."""
        if self._end is None:
            self._end = EngineDead("engine_closed", f"engine {self.name} is closed; start a new one")
        self._release()

    def _check_alive(self) -> None:
        if self._end is not None:
            raise self._end

    def _ending(self, work: Callable[[], T], when: str = "in a step") -> T:
        """The result of `work`. If it fails, the engine has ended; that is raised now and in every later call."""
        try:
            return work()
        except Exception as error:
            code = error.code if isinstance(error, EngineError) else "engine_failed"
            what = error.message if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
            self._end = EngineDead(code, f"engine {self.name} failed {when}: {what}")
            raise self._end from error

    def _refuse(self, sequence_id: int, prompt_tokens: int, error: RequestRefused) -> None:
        self._pending_outputs.append(failed_output(sequence_id, prompt_tokens, error.code, error.message))
