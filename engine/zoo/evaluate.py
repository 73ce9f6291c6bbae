"""Ask both embedded models the same held-out questions, through Penstock's own engine: `penstock zoo eval`.

Greedy, with continuous batching; an answer is right when its text is exactly the expected one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from engine.zoo.deferral import Deferral, Outcome, deferral_curve
from engine.zoo.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.zoo.question import Question

_MAX_ANSWER_TOKENS = 96
_WAITING = 256
"""Questions handed to the engine at once; it batches them as its own limits allow."""


class Answer(msgspec.Struct, frozen=True):
    """What a model said: `margin` is the smallest over the answer's tokens, in nats."""

    text: str
    tokens: int
    margin: float


class Score(msgspec.Struct, frozen=True):
    """Right answers of one model, with Wilson's 95 % interval; shares are 0 to 1."""

    right: int
    asked: int
    share: float
    low: float
    high: float
    tokens: float
    """Mean tokens an answer."""


class Row(msgspec.Struct, frozen=True):
    """One line of the table. Difficulty 0 and task "all" stand for the whole."""

    task: str
    difficulty: int
    small: Score
    large: Score

    @property
    def gap(self) -> float:
        """The large model's lead, 0 to 1."""
        return self.large.share - self.small.share


class Report(msgspec.Struct, frozen=True):
    """The table, and how well the small model's margins tell when to ask the large one."""

    questions: int
    seed: int
    rows: tuple[Row, ...]
    deferral: Deferral

    def table(self) -> str:
        """Plain text, for a terminal."""
        lines = [f"{self.questions} held-out questions, seed {self.seed}; right answers in % [Wilson 95 %]", ""]
        lines.append(f"{'task':<11}{'level':<7}{'asked':>5}  {'small':<22}{'large':<22}{'gap':>6}{'tokens':>8}")
        for row in self.rows:
            level = str(row.difficulty or "all")
            lines.append(
                f"{row.task:<11}{level:<7}{row.small.asked:>5}  {_percent(row.small):<22}{_percent(row.large):<22}"
                f"{100 * row.gap:>6.1f}{row.large.tokens:>8.1f}"
            )
        deferral = self.deferral
        lines += [
            "",
            "Escalating when the small model's smallest token margin is below a threshold:",
            f"AUROC {deferral.auroc:.3f}",
            f"APGR {deferral.apgr:.3f}, oracle {deferral.oracle_apgr:.3f}, normalised {deferral.normalised_apgr:.3f}",
            f"{'threshold (nats)':<20}{'escalated %':>12}{'cascade right %':>18}",
        ]
        for point in deferral.points:
            lines.append(f"{point.threshold:<20.3f}{100 * point.escalated:>12.1f}{100 * point.accuracy:>18.1f}")
        return "\n".join(lines)


def wilson(right: int, asked: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927)."""
    if not asked:
        return 0.0, 1.0
    z, share = 1.959964, right / asked
    middle = share + z * z / (2 * asked)
    spread = z * math.sqrt(share * (1 - share) / asked + z * z / (4 * asked * asked))
    scale = 1 + z * z / asked
    return (middle - spread) / scale, (middle + spread) / scale


def _percent(score: Score) -> str:
    return f"{100 * score.share:5.1f} [{100 * score.low:4.1f}, {100 * score.high:5.1f}]"


def _score(questions: Sequence[Question], answers: Sequence[Answer], chosen: Sequence[int]) -> Score:
    right = sum(answers[i].text == questions[i].answer for i in chosen)
    low, high = wilson(right, len(chosen))
    tokens = sum(answers[i].tokens for i in chosen) / max(1, len(chosen))
    return Score(right, len(chosen), right / max(1, len(chosen)), low, high, tokens)


def make_report(questions: Sequence[Question], small: Sequence[Answer], large: Sequence[Answer], seed: int) -> Report:
    """The report from both models' answers to the same questions."""
    rows = []
    for task in (*TASKS, "all"):
        for difficulty in (1, 2, 3, 0):
            chosen = [
                i
                for i, question in enumerate(questions)
                if task in {question.task, "all"} and difficulty in {question.difficulty, 0}
            ]
            rows.append(Row(task, difficulty, _score(questions, small, chosen), _score(questions, large, chosen)))
    outcomes = [
        Outcome(weak.margin, weak.text == question.answer, strong.text == question.answer)
        for question, weak, strong in zip(questions, small, large, strict=True)
    ]
    return Report(len(questions), seed, tuple(rows), deferral_curve(outcomes))
