"""Whether the small model's answer is trusted, token by token; and how much of it may be shown meanwhile.

gate: nothing is released before the decision. window: while the statistic is not below the threshold, what is older
than the last `window` tokens is released; as soon as it is, the answer escalates, and the large model goes on after
the released tokens. Released text is never taken back. With several choices it is always gate, over all of them, and
so it is with a statistic that may rise again, for it decides at the end only.

What is released ends where it may be parted (`policies.cascade.text_spans`): not within a word, a number, JSON, code
or a table.
Tool calls are atomic: from the output that opens one on it is gate, unless the policy's `atomic` leaves them out.

Text may lag behind tokens (half a character, a possible stop string): an output without text is released only together
with the next one that has some, so that a boundary between the two models does not fall into a character.
"""

import math
from typing import Literal

import msgspec

from policies.cascade.statistic import Deferral, falls, new_statistic
from policies.cascade.text_spans import TextSpans
from policies.errors import IntegrityError
from policies.model.plan import PlannedCascade


class Release(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Show what came for a choice, up to and including its first `outputs` outputs, which hold `upto` tokens."""

    index: int
    upto: int
    outputs: int


class Escalate(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Drop what is held and let the large model go on after these many tokens of each choice."""

    from_token_counts: tuple[int, ...]
    why: str


class Accept(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The small model's answer stands, whole; comes after the last `Release`."""

    why: str


CascadeEffect = Release | Escalate | Accept


class _Choice:
    """Outputs that are not released yet, as (tokens, outputs) counts at their ends that may be cut at."""

    __slots__ = ("finished", "held", "last", "outputs", "released", "released_outputs", "spans", "statistic", "tokens")

    def __init__(self, statistic: Deferral, *, whole: bool) -> None:
        """`whole`: JSON and the like are not shown in part."""
        self.statistic = statistic
        self.tokens = 0
        self.outputs = 0
        self.released = 0
        self.released_outputs = 0
        self.held: list[tuple[int, int]] = []
        self.last: tuple[int, int] | None = None
        """Behind the last output with text: what follows decides whether it may be cut at."""
        self.spans = TextSpans(whole=whole)
        self.finished = False


class CascadeMachine:
    """One small attempt. Feed it every output, in order; do what it says, in order. No effects: hold."""

    def __init__(self, cascade: PlannedCascade, choices: int) -> None:
        if choices < 1:
            raise ValueError(f"an answer has at least one choice, not {choices}")
        self._threshold = cascade.threshold
        self._calls_are_atomic = "tool_calls" in cascade.atomic
        self._early = falls(cascade.statistic)
        self._window = cascade.window if cascade.mode == "window" and choices == 1 and self._early else None
        self._mode: Literal["gate", "window"] = "gate" if self._window is None else "window"
        self._choices = [
            _Choice(new_statistic(cascade.statistic), whole="json" in cascade.atomic) for _ in range(choices)
        ]
        self._unfinished = choices
        self._decided = False

    @property
    def mode(self) -> Literal["gate", "window"]:
        """As it is obeyed: gate if there are several choices, or the statistic may rise."""
        return self._mode

    @property
    def statistic(self) -> float:
        """The least sure choice's statistic so far, in nats; NaN if a margin was no number."""
        return self._choices[self.least_sure].statistic.value

    @property
    def least_sure(self) -> int:
        """Which choice decides: the first of those whose statistic is the lowest, or no number."""
        values = [choice.statistic.value for choice in self._choices]
        return min(range(len(values)), key=lambda index: -math.inf if math.isnan(values[index]) else values[index])

    @property
    def decided(self) -> bool:
        """Whether it escalated or accepted; outputs after that have no effect."""
        return self._decided

    def on_output(
        self,
        index: int,
        token_ids: tuple[int, ...],
        text: str,
        margins: tuple[float, ...],
        finish: bool,
        *,
        opens_call: bool = False,
    ) -> tuple[CascadeEffect, ...]:
        """What one output brings. `finish` means a true end (stop, length): an attempt that broke off has none.

        `opens_call`: with it, or before it, a tool call has begun.
        """
        choice = self._choices[index]
        if self._decided or choice.finished:
            return ()
        for margin in margins:
            choice.statistic.add(margin)
            if self._early and self._unsure(choice):
                return self._escalate("low_margin")
        if finish and self._unsure(choice):
            return self._escalate("low_margin")
        choice.tokens += len(token_ids)
        choice.outputs += 1
        if finish:
            choice.finished = True
            self._unfinished -= 1
            return self._accept() if self._unfinished == 0 else ()
        if opens_call and self._calls_are_atomic:
            self._window = None
        if self._window is None:
            return ()
        if text:
            if choice.last is not None and choice.spans.may_part_before(text):
                choice.held.append(choice.last)
            choice.spans.feed(text)
            choice.last = choice.tokens, choice.outputs
        return self._slide(index, choice)

    def check_integrity(self) -> None:
        """Raise `IntegrityError` if more was released than came, or a count is off."""
        for choice in self._choices:
            if not choice.released <= choice.tokens or not choice.released_outputs <= choice.outputs:
                raise IntegrityError("more was released than came")
        if self._unfinished != sum(not choice.finished for choice in self._choices):
            raise IntegrityError("the number of unfinished choices is off")

    def _unsure(self, choice: _Choice) -> bool:
        # `not >=` rather than `<`: a statistic that is not a number is no reason for trust. An infinite threshold
        # (all to the large model) takes the tokens along of which a grammar left no second best.
        return not choice.statistic.value >= self._threshold or self._threshold == math.inf

    def _slide(self, index: int, choice: _Choice) -> tuple[CascadeEffect, ...]:
        assert self._window is not None
        limit = choice.tokens - self._window
        held = choice.held
        ready = 0
        while ready < len(held) and held[ready][0] <= limit:
            ready += 1
        if not ready:
            return ()
        choice.released, choice.released_outputs = held[ready - 1]
        del held[:ready]
        return (Release(index, choice.released, choice.released_outputs),)

    def _escalate(self, why: str) -> tuple[CascadeEffect, ...]:
        self._decided = True
        return (Escalate(tuple(choice.released for choice in self._choices), why),)

    def _accept(self) -> tuple[CascadeEffect, ...]:
        self._decided = True
        effects: list[CascadeEffect] = []
        for index, choice in enumerate(self._choices):
            choice.released, choice.released_outputs = choice.tokens, choice.outputs
            effects.append(Release(index, choice.tokens, choice.outputs))
        effects.append(Accept("confident"))
        return tuple(effects)
