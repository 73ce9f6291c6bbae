"""The outputs of a job, notices about it, and the slot where they wait for their reader: bounded, one a request.

The engine's actor puts and never waits. A reader that falls behind gets its outputs merged. One that falls behind
further than the bounds is overrun: it still gets what was kept, and then an error.
"""

from collections.abc import Callable
from itertools import chain

import msgspec
import trio

from actors.api.extra_fields import ExtraFields, joined
from engine.messages import Finish, SequenceOutput, TokenDelta, TokenLogprobs
from engine.text.tool_calls import ToolCall
from policies.fallback.fallback_machine import AttemptFailed, RungRefused


class TextDelta(msgspec.Struct, frozen=True, gc=False):
    """New text of one upstream call, without token ids."""

    sequence_id: int
    text: str
    token_count: int
    """An estimate; the last delta corrects it, possibly downwards."""
    logprobs: tuple[TokenLogprobs, ...] = ()
    finish: Finish | None = None
    """Set in the last delta."""
    upstream_finish: str = ""
    """The upstream's own finish reason if it is an unknown one; `finish.reason` is "stop" then."""
    tool_calls: tuple[ToolCall, ...] = ()
    """All of them, with the finish."""
    reasoning: str = ""
    """Reasoning, which is not in `text`; its tokens are counted, too."""
    model: str = ""
    """The model's name as the upstream sends it; "" if it sends none."""
    refuses: bool = False
    """`text` is the model's refusal."""
    extras: ExtraFields | None = None
    """What else the upstream says."""


JobOutput = SequenceOutput | TextDelta


class JobStarted(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The job has left the queue for its engine."""

    at: float


class Terminate(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The service ends this answer."""

    code: str
    message: str


StreamNotice = JobStarted | RungRefused | AttemptFailed | Terminate
"""RungRefused: the job was not admitted, or expired. AttemptFailed: its engine or upstream failed."""


Item = tuple[int, JobOutput | StreamNotice]
"""(job id, output or notice)"""

SEPARATE_OUTPUTS = 32
"""If more than this many outputs wait, the later ones are merged, one for each sequence."""
MOST_TOKENS = 16_384
MOST_CHARACTERS = 262_144
"""Of text; for sounds and images sixteen times as many bytes. A single output may be longer."""
_BYTES_PER_CHARACTER = 16


class Delivery:
    """Written by the actors, read by the request's own task."""

    __slots__ = (
        "_alarmed",
        "_characters",
        "_items",
        "_quiet",
        "_tokens",
        "_waiter",
        "closed",
        "first_at",
        "on_started",
        "overrun",
        "take_now",
    )

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._tokens = 0
        self._characters = 0
        self._waiter: trio.lowlevel.Task | None = None
        self._alarmed = False
        self._quiet = False
        self.first_at: float | None = None
        """When the first output came while the reader waited quietly: see `take`."""
        self.overrun = False
        """The reader was too slow: later outputs are dropped."""
        self.closed = False
        """There is no reader any more."""
        self.on_started: Callable[[], None] | None = None
        """Called in the dispatcher's turn when a job has left its queue. It must not raise."""
        self.take_now: Callable[[int, JobOutput], bool] | None = None
        """Offered each output that comes while the reader waits and nothing else does, in the task that brings it.

        False, without effect: not now. Never offered the last output of a sequence. It must not raise.
        """

    def put(self, job_id: int, output: JobOutput) -> bool:
        """False: it was dropped, and the sequence may be aborted."""
        if self.closed or self.overrun:
            return False
        if self._quiet and self.first_at is None:
            self.first_at = trio.current_time()
        if (
            self.take_now is not None
            and self._waiter is not None
            and not self._items
            and output.finish is None
            and self.take_now(job_id, output)
        ):
            return True
        self._count(output)
        if self._items and (self._tokens > MOST_TOKENS or self._characters > MOST_CHARACTERS):
            self.overrun = True
            self._wake()
            return False
        self._items.append((job_id, output))
        if self._waiter is not None and (
            not self._quiet
            or output.finish is not None
            or self._tokens * 2 > MOST_TOKENS
            or self._characters * 2 > MOST_CHARACTERS
        ):
            self._wake()
        return True

    def notify(self, job_id: int, notice: StreamNotice) -> None:
        """Add a notice about the job."""
        if self.closed:
            return
        self._items.append((job_id, notice))
        if not isinstance(notice, JobStarted):
            self._wake()
        elif self.on_started is not None:
            self.on_started()

    def fail(self, error: Exception) -> bool:
        """The message with the job was lost in a crash."""
        self.notify(0, RungRefused(why="actor_died", message=str(error)))
        return not self.closed

    def alarm(self) -> None:
        """Wake the reader, so that it checks its deadlines."""
        self._alarmed = True
        self._wake()

    def put_back(self, items: list[Item]) -> None:
        """Return items that were taken too early: the next `take` begins with them."""
        self._items[:0] = items
        for _, item in items:
            self._count(item)

    def unread(self) -> tuple[Item, ...]:
        return tuple(self._items)

    def close(self) -> None:
        self.closed = True
        self.take_now = self.on_started = None
        self._items.clear()

    async def take(self, *, quiet: bool) -> list[Item]:
        """Wait for items; none if an alarm or an overrun woke. `quiet`: wait for an end, or half of the bounds."""
        self._quiet = quiet
        if self._alarmed or self.overrun or (self._items and not self._only_quiet_items()):
            self._alarmed = False
        else:
            self._waiter = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
            self._alarmed = False
        items, self._items = self._items, []
        self._tokens = self._characters = 0
        return items if len(items) <= SEPARATE_OUTPUTS else _conflated(items)

    def _only_quiet_items(self) -> bool:
        """Whether no item would have woken the reader."""
        for _, item in self._items:
            if isinstance(item, JobOutput):
                if not self._quiet or item.finish is not None:
                    return False
            elif not isinstance(item, JobStarted):
                return False
        return True

    def _count(self, item: JobOutput | StreamNotice) -> None:
        if isinstance(item, TokenDelta):
            self._tokens += len(item.token_ids)
            self._characters += len(item.text)
        elif isinstance(item, TextDelta):
            self._characters += len(item.text) + len(item.reasoning)
            if item.extras is not None:
                self._characters += item.extras.size // _BYTES_PER_CHARACTER

    def _wake(self) -> None:
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            trio.lowlevel.reschedule(waiter)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._waiter = None
        return trio.lowlevel.Abort.SUCCEEDED


def _conflated(items: list[Item]) -> list[Item]:
    """The first outputs, then the later ones merged by sequence; notices keep their place between them."""
    kept = items[:SEPARATE_OUTPUTS]
    runs: dict[int, list[JobOutput]] = {}
    jobs: dict[int, int] = {}
    for job_id, item in items[SEPARATE_OUTPUTS:]:
        if isinstance(item, JobOutput):
            jobs[item.sequence_id] = job_id
            runs.setdefault(item.sequence_id, []).append(item)
        else:
            kept += [(jobs[sequence], _merged(run)) for sequence, run in runs.items()]
            runs.clear()
            kept.append((job_id, item))
    return kept + [(jobs[sequence], _merged(run)) for sequence, run in runs.items()]


def _merged(outputs: list[JobOutput]) -> JobOutput:
    """Several outputs of one sequence as one."""
    last = outputs[-1]
    if len(outputs) == 1:
        return last
    if isinstance(last, TextDelta):
        pieces = [output for output in outputs if isinstance(output, TextDelta)]
        return TextDelta(
            last.sequence_id,
            "".join([piece.text for piece in pieces]),
            sum([piece.token_count for piece in pieces]),
            tuple(chain.from_iterable([piece.logprobs for piece in pieces])),
            last.finish,
            last.upstream_finish,
            last.tool_calls,
            "".join([piece.reasoning for piece in pieces]),
            next((piece.model for piece in pieces if piece.model), ""),
            last.refuses,
            joined([piece.extras for piece in pieces if piece.extras is not None]),
        )
    deltas = [output for output in outputs if isinstance(output, TokenDelta)]
    return TokenDelta(
        last.sequence_id,
        tuple(chain.from_iterable([delta.token_ids for delta in deltas])),
        "".join([delta.text for delta in deltas]),
        tuple(chain.from_iterable([delta.margins for delta in deltas])),
        tuple(chain.from_iterable([delta.logprobs for delta in deltas])),
        last.finish,
        deltas[0].prompt_logprobs,
    )
