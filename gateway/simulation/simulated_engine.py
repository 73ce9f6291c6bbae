"""One engine on the virtual clock: the engine's own scheduler and block manager, with the profile's step costs.

As in the real step loop, commands are applied between two steps, the engine waits for a time slice before a step if it
shares cores, and the output of a step is processed while the next step runs.

Fast-forward: consecutive steps that only add one token to every running sequence are planned together, as a run. A run
is applied lazily: `catch_up` applies the steps that have ended by now, and `cut` drops those that have not begun, for
example when a command arrives.
"""

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np

from config.model.settings import EngineSettings
from engine.messages import EngineStats
from engine.scheduling.plan import Share, shares_of
from engine.scheduling.scheduler import Scheduler
from gateway.profiling.profile import BadProfile, EngineProfile, EngineTimes, shape_of
from gateway.simulation.replayed_sequence import ReplayedSequence
from gateway.simulation.simulated_time_slices import SimulatedTimeSlices

_NEVER = float("inf")
_LONGEST_RUN = 1024


class SimulatedEngine:
    """One replica of an engine. Its owner calls `on_due` at the time `due`."""

    def __init__(
        self,
        name: str,
        settings: EngineSettings,
        profile: EngineProfile,
        order: tuple[int, ...],
        *,
        title: str,
        fast_forward: bool,
        is_settled: Callable[[], bool],
        others_busy: Callable[[], bool],
        on_busy_changed: Callable[[float], None],
        time_slices: SimulatedTimeSlices | None,
    ) -> None:
        """`title` is unique among replicas. `order`: see `EngineTimes`. Without `fast_forward` no runs are planned.

        `is_settled`: whether no waiting job can start because of a step alone. `others_busy`: whether another engine
        is in a step. `on_busy_changed` is called when this engine begins or stops to compute. `time_slices` None: the
        engine shares no cores.

        Raises BadProfile if its KV memory is too small for a block.
        """
        block_size = settings.kv.block_size
        total = (settings.kv.memory or profile.kv_bytes) // (profile.kv_token_bytes * block_size)
        if total < 2:
            raise BadProfile(f"engine '{name}': its KV memory is too small for a block of {block_size} tokens")
        self.name = name
        self.title = title
        longest = min(profile.max_model_len, (total - 1) * block_size)
        self.max_model_len = min(settings.max_model_len or longest, longest)
        self.due = _NEVER
        """When the current step or run ends."""
        self.uncharged_tokens: Counter[str] = Counter()
        """By tenant queue: output tokens that the fair queue has not charged yet."""
        self.first_s: list[tuple[str, float]] = []
        """(tenant queue, seconds from a start to the first token) that the fair queue does not know yet."""
        self.gaps = array("d")
        """Times between two tokens that clients received as they were generated."""
        self.weights = array("l")
        """For each gap: the number of sequences that had it."""
        self.busy_s = 0.0
        self._scheduler = Scheduler(
            settings, total_blocks=total, block_size=block_size, max_model_len=self.max_model_len
        )
        self._times = EngineTimes(profile, settings.max_step_tokens, order)
        self._total = total - 1
        self._fast_forward = fast_forward
        self._is_settled = is_settled
        self._others_busy = others_busy
        self._on_busy_changed = on_busy_changed
        self._time_slices = time_slices
        self._awaits_slice = False
        """It waits for a time slice. Commands that arrive meanwhile are applied after the step that follows."""
        self._step_s = 0.0
        """Duration of the last step, to be charged to the time slice."""
        self.is_slowed_by_others = profile.beside is not None
        self._inbox: list[tuple[ReplayedSequence, bool]] = []
        """Commands: (sequence, True to start it or False to abort it)."""
        self._shares: list[Share] | None = None
        """The current step; None: a run, or no step."""
        self._ends: list[float] = []
        """End times of the steps of the current run that are not applied yet."""
        self._began = 0.0
        """When the current step began; within a run, when the last applied step ended."""
        self._steps = 0
        self._generated = 0
        self._prompts = 0
        self._stats = self._make_stats()

    @property
    def busy(self) -> bool:
        return self.due < _NEVER

    def submit(self, now: float, start: Iterable[ReplayedSequence], abort: Iterable[ReplayedSequence] = ()) -> None:
        """Send commands: start and abort sequences. They are applied at the next step boundary."""
        for sequence in start:
            self._prompts += sequence.known
            self._inbox.append((sequence, True))
        self._inbox += [(sequence, False) for sequence in abort]
        if self.busy:
            self.cut(now)
        elif not self._awaits_slice:
            self._begin(now, was_busy=False)

    def stats(self, now: float) -> EngineStats:
        self.catch_up(now)
        return self._stats

    def catch_up(self, now: float) -> None:
        """Apply the steps of the current run that have ended."""
        if self._ends and self._ends[0] <= now:
            self._carry_out(bisect_right(self._ends, now))

    def cut(self, now: float) -> None:
        """End the current run after its current step, because what it was planned for has changed."""
        self.catch_up(now)
        if len(self._ends) > 1:
            del self._ends[1:]
            self.due = self._ends[0]

    def check_integrity(self) -> None:
        self._scheduler.check_integrity()

    def on_due(self, now: float) -> list[ReplayedSequence]:
        """End the current step or run and begin the next one. Returns the sequences that have reached their `stop`."""
        if self._shares is not None:
            stopped = self._finish_step(self._shares, now)
        else:
            self.catch_up(now)
            stopped = [sequence for sequence in self._running() if sequence.known >= sequence.stop]
        for sequence in stopped:
            if sequence.known >= sequence.end:
                self._scheduler.finish(sequence)
        self._stats = self._make_stats()
        self.due = _NEVER
        if self._time_slices is not None:
            self._time_slices.done(self.title, self._step_s, now, more=self._scheduler.has_work)
        self._begin(now, was_busy=True)
        return stopped

    def on_time_slice(self, now: float) -> None:
        """A time slice is granted. The work may have been aborted meanwhile."""
        self._awaits_slice = False
        if self._scheduler.has_work:
            self._plan(now)
            if self._inbox:
                self.cut(now)
            self._on_busy_changed(now)
        elif self._time_slices is not None:
            self._time_slices.done(self.title, 0.0, now, more=False)

    def _begin(self, now: float, *, was_busy: bool) -> None:
        for sequence, starts in self._inbox:
            if starts:
                self._scheduler.add(sequence)
            elif not sequence.finished:
                self._scheduler.finish(sequence)
        self._inbox = []
        if self._scheduler.has_work:
            self._awaits_slice = self._time_slices is not None and not self._time_slices.ask(self.title, now)
            if not self._awaits_slice:
                self._plan(now)
        if self.busy != was_busy:
            self._on_busy_changed(now)

    def _plan(self, now: float) -> None:
        scheduler = self._scheduler
        self._shares = None
        self._ends = []
        self._began = now
        if (
            self._fast_forward
            and scheduler.running
            and self._is_settled()
            and (self._time_slices is None or not self._time_slices.contended)
        ):
            running = self._running()
            nearest = min([sequence.stop - sequence.known for sequence in running])
            if nearest > 1 and (steps := scheduler.quiet_steps(min(nearest, _LONGEST_RUN))) > 1:
                context = sum([sequence.known for sequence in running])
                ends = self._times.decodes(now, len(running), context, self._steps, steps, beside=self._others_busy())
                self._ends = ends.tolist()
                self.due = self._ends[-1]
                return
        self._shares = shares_of(scheduler.decide())
        self.due = now + self._times.step(shape_of(self._shares), self._steps, beside=self._others_busy())

    def _finish_step(self, shares: list[Share], now: float) -> list[ReplayedSequence]:
        stopped = []
        together = 0
        for sequence in self._scheduler.commit(shares):
            if sequence is None:
                continue
            assert isinstance(sequence, ReplayedSequence)
            sequence.known += 1
            if sequence.generated == 1:
                self.first_s.append((sequence.tenant[1], now - sequence.started_at))
            self._generated += 1
            self.uncharged_tokens[sequence.tenant[1]] += 1
            if sequence.visible:
                if sequence.at == self._began:
                    together += 1
                else:
                    self._note_gap(now - sequence.at, 1)
            sequence.at = now
            if sequence.known >= sequence.stop:
                stopped.append(sequence)
        if together:
            self._note_gap(now - self._began, together)
        self._step_s = now - self._began
        self.busy_s += self._step_s
        self._steps += 1
        return stopped

    def _carry_out(self, steps: int) -> None:
        ends = self._ends
        now, visible = ends[steps - 1], 0
        for sequence in self._running():
            sequence.known += steps
            self.uncharged_tokens[sequence.tenant[1]] += steps
            if sequence.visible:
                visible += 1
                if sequence.at != self._began:
                    # Its last token is older than the previous step, so its first gap is longer than the others'.
                    self._note_gap(ends[0] - sequence.at, 1)
                    self._note_gap(ends[0] - self._began, -1)
            sequence.at = now
        self._scheduler.advance(steps)
        self._generated += steps * len(self._scheduler.running)
        self._steps += steps
        if visible:
            self.gaps.extend(np.diff(np.array([self._began, *ends[:steps]])).tolist())
            self.weights.extend([visible] * steps)
        self.busy_s += now - self._began
        if self._time_slices is not None:
            for end in ends[:steps]:
                self._step_s, self._began = end - self._began, end
                if end != ends[-1]:
                    self._time_slices.used(self.title, self._step_s)
        del ends[:steps]
        self._began = now
        if ends:
            # A run that goes on has no `on_due`, which would update the statistics.
            self._stats = self._make_stats()

    def _note_gap(self, gap: float, weight: int) -> None:
        self.gaps.append(gap)
        self.weights.append(weight)

    def _running(self) -> list[ReplayedSequence]:
        return self._scheduler.running  # type: ignore[return-value]  # it holds only sequences from `submit`

    def _make_stats(self) -> EngineStats:
        now = self._scheduler.statistics()
        return EngineStats(
            total_blocks=self._total,
            free_blocks=now.blocks.free + now.blocks.cached,
            cached_blocks=now.blocks.cached,
            running=now.running,
            waiting=now.waiting,
            outstanding_tokens=now.outstanding_tokens,
            steps_total=self._steps,
            preemptions_total=now.preemptions_total,
            prefix_queries_total=now.prefix_queries_total,
            prefix_hits_total=now.prefix_hits_total,
            prompt_tokens_total=self._prompts,
            generation_tokens_total=self._generated,
        )
