"""Decides token by token whether the small model's answer is accepted, and how much of it is released before that.

Mode gate: nothing is released before the decision. Mode window: while the statistic is at or above the threshold, all
but the last `window` tokens are released; when it falls below, the answer escalates and the large model continues after
the released tokens. Released text is never withdrawn. With several choices, a judge, or a statistic that can rise
again and therefore decides only at the end of the answer, the mode is always gate.

Released text ends only where it may be split (`policies.cascade.text_spans`): not within a word, a number, JSON, code
or a table. Tool calls are atomic: from the output that opens one the mode is gate, unless the policy's `atomic` does
not list them.

The detokenizer may withhold text (an incomplete character, a possible stop string). An output without text is released
only together with the next one that has text, so that the large model never starts within a character.
"""

import math
from typing import Literal

import msgspec

from policies.cascade.statistic import Deferral, falls, new_statistic
from policies.cascade.text_spans import TextSpans
from policies.errors import IntegrityError
from policies.model.plan import PlannedCascade


class Release(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Release the first `outputs` outputs of a choice, which contain `upto` tokens; both count from its start."""

    index: int
    upto: int
    outputs: int


class Escalate(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Discard what is held back; the large model continues after these many tokens, by choice."""

    from_token_counts: tuple[int, ...]
    why: str


class Accept(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The small model's answer is final. Follows the last `Release`."""

    why: str


class AskJudge(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The answer is whole, and the statistic would accept it: have it judged, and call `judged`."""


CascadeEffect = Release | Escalate | Accept | AskJudge


class _Choice(msgspec.Struct, eq=False):
    statistic: Deferral
    spans: TextSpans
    tokens: int = 0
    outputs: int = 0
    released: int = 0
    released_outputs: int = 0
    held: list[tuple[int, int]] = []
    """Positions not yet released where the text may be split, as (tokens, outputs)."""
    last: tuple[int, int] | None = None
    """The position after the last output with text: the next text decides whether it can be split there."""
    finished: bool = False


class CascadeMachine:
    """One attempt of the small model. Pass it every output in order and apply the effects that it returns in order."""

    def __init__(self, cascade: PlannedCascade, choices: int) -> None:
        if choices < 1:
            raise ValueError(f"an answer has at least one choice, not {choices}")
        self._threshold = cascade.threshold
        self._calls_are_atomic = "tool_calls" in cascade.atomic
        self._decides_early = falls(cascade.statistic)
        self._judge = cascade.judge
        windows = choices == 1 and self._decides_early and self._judge is None
        self._window = cascade.window if cascade.mode == "window" and windows else None
        self.mode: Literal["gate", "window"] = "gate" if self._window is None else "window"
        """Gate with several choices, a statistic that can rise, or a judge."""
        self._choices = [
            _Choice(new_statistic(cascade.statistic), TextSpans(structures_whole="json" in cascade.atomic))
            for _ in range(choices)
        ]
        self._unfinished = choices
        self.decided = False
        """It escalated or accepted: later outputs have no effect."""

    @property
    def has_judge(self) -> bool:
        return self._judge is not None

    @property
    def statistic(self) -> float:
        """The lowest statistic of all choices so far, in nats; NaN if a margin was NaN."""
        return self._choices[self.least_sure].statistic.value

    def statistic_of(self, index: int) -> float:
        """The statistic of one choice so far, in nats; NaN if a margin was NaN."""
        return self._choices[index].statistic.value

    @property
    def least_sure(self) -> int:
        """Index of the choice with the lowest statistic; NaN counts as lowest, and the first of equals is taken."""
        values = [choice.statistic.value for choice in self._choices]
        return min(range(len(values)), key=lambda index: -math.inf if math.isnan(values[index]) else values[index])

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
        """Effects of one output; none means that it is held back.

        `finish`: the choice ended by stop or length, not by an error. `opens_call`: a tool call has begun in this
        output or before it.
        """
        choice = self._choices[index]
        if self.decided or choice.finished:
            return ()
        for margin in margins:
            choice.statistic.add(margin)
            if self._decides_early and self._unsure(choice):
                return self._escalate()
        if finish and self._unsure(choice):
            return self._escalate()
        choice.tokens += len(token_ids)
        choice.outputs += 1
        if finish:
            choice.finished = True
            self._unfinished -= 1
            if self._unfinished:
                return ()
            return self._accept("confident") if self._judge is None else (AskJudge(),)
        if opens_call and self._calls_are_atomic:
            self._window = None
        if self._window is None:
            return ()
        if text:
            if choice.last is not None and choice.spans.may_split_before(text):
                choice.held.append(choice.last)
            choice.spans.feed(text)
            choice.last = choice.tokens, choice.outputs
        return self._slide(index, choice)

    def judged(self, holds: float | None) -> tuple[CascadeEffect, ...]:
        """How much the judge holds the answer to be good, 0 to 1; None: it could not judge it."""
        assert self._judge is not None
        if holds is None:
            escalates = self._judge.on_failure == "escalate"
            return self._escalate("not_judged") if escalates else self._accept("not_judged")
        return self._accept("judged_good") if holds >= self._judge.threshold else self._escalate("judged_bad")

    def check_integrity(self) -> None:
        """Raise `IntegrityError` if more was released than received, or if a count is wrong."""
        for choice in self._choices:
            if not choice.released <= choice.tokens or not choice.released_outputs <= choice.outputs:
                raise IntegrityError("more was released than came")
        if self._unfinished != sum(not choice.finished for choice in self._choices):
            raise IntegrityError("the number of unfinished choices is off")

    def _unsure(self, choice: _Choice) -> bool:
        # `not >=` rather than `<`: NaN counts as unsure. With an infinite threshold every answer escalates, even one
        # whose margins are infinite because a grammar allowed only one token at each step.
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

    def _escalate(self, why: str = "low_margin") -> tuple[CascadeEffect, ...]:
        self.decided = True
        return (Escalate(tuple(choice.released for choice in self._choices), why),)

    def _accept(self, why: str) -> tuple[CascadeEffect, ...]:
        self.decided = True
        for choice in self._choices:
            choice.released, choice.released_outputs = choice.tokens, choice.outputs
        releases = [Release(index, choice.tokens, choice.outputs) for index, choice in enumerate(self._choices)]
        return (*releases, Accept(why))
