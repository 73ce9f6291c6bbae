"""Evaluate both embedded models on the same held-out questions with Penstock's engine: `penstock zoo eval`.

Greedy, with continuous batching; an answer is correct if its text equals the expected one.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import msgspec

from config.model.settings import EngineSettings, KVSettings
from engine.offline import OfflineAnswer, generate_offline
from engine.zoo.question import ZooQuestion
from engine.zoo.tasks import TASKS, held_out_questions

MAX_ANSWER_TOKENS = 96
"""More than the longest expected answer."""
_THREADS = 2
_KV = KVSettings()


class Score(msgspec.Struct, frozen=True):
    """Correct answers of one model, with Wilson's 95 % interval; shares are 0 to 1."""

    right: int
    asked: int
    share: float
    low: float
    high: float
    tokens: float
    """Mean number of tokens per answer."""


class ZooRow(msgspec.Struct, frozen=True):
    """One line of the table. Difficulty 0 and task "all" are totals."""

    task: str
    difficulty: int
    small: Score
    large: Score

    @property
    def gap(self) -> float:
        """The large model's share minus the small model's, -1 to 1."""
        return self.large.share - self.small.share


class ZooReport(msgspec.Struct, frozen=True):
    """Scores by task and difficulty."""

    questions: int
    seed: int
    rows: tuple[ZooRow, ...]

    def table(self) -> str:
        lines = [f"{self.questions} held-out questions, seed {self.seed}; right answers in % [Wilson 95 %]", ""]
        lines.append(f"{'task':<11}{'level':<7}{'asked':>5}  {'small':<22}{'large':<22}{'gap':>6}{'tokens':>8}")
        for row in self.rows:
            level = str(row.difficulty or "all")
            lines.append(
                f"{row.task:<11}{level:<7}{row.small.asked:>5}  {_percent(row.small):<22}{_percent(row.large):<22}"
                f"{100 * row.gap:>6.1f}{row.large.tokens:>8.1f}"
            )
        return "\n".join(lines)


def wilson(right: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927)."""
    if not total:
        return 0.0, 1.0
    z, share = 1.959964, right / total
    middle = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return (middle - spread) / scale, (middle + spread) / scale


def _percent(score: Score) -> str:
    return f"{100 * score.share:5.1f} [{100 * score.low:4.1f}, {100 * score.high:5.1f}]"


def _score(questions: Sequence[ZooQuestion], answers: Sequence[OfflineAnswer], chosen: Sequence[int]) -> Score:
    right = sum(answers[i].text == questions[i].answer for i in chosen)
    low, high = wilson(right, len(chosen))
    tokens = sum(answers[i].tokens for i in chosen) / max(1, len(chosen))
    return Score(right, len(chosen), right / max(1, len(chosen)), low, high, tokens)


def make_report(
    questions: Sequence[ZooQuestion], small: Sequence[OfflineAnswer], large: Sequence[OfflineAnswer], seed: int
) -> ZooReport:
    """The report from both models' answers to the same questions."""
    rows = []
    for task in (*TASKS, "all"):
        for difficulty in (1, 2, 3, 0):
            chosen = [
                i
                for i, question in enumerate(questions)
                if task in {question.task, "all"} and difficulty in {question.difficulty, 0}
            ]
            rows.append(ZooRow(task, difficulty, _score(questions, small, chosen), _score(questions, large, chosen)))
    return ZooReport(len(questions), seed, tuple(rows))


def ask(
    model: Path, questions: Sequence[ZooQuestion], progress: Callable[[str], None], kv: KVSettings = _KV
) -> tuple[OfflineAnswer, ...]:
    """One model's greedy answers, in the order of the questions. Raises ModelError: the directory cannot be served."""
    settings = EngineSettings(model=model, threads=_THREADS, kv=kv)
    prompts = [question.prompt for question in questions]
    return generate_offline(model.name, settings, prompts, MAX_ANSWER_TOKENS, progress).answers


def evaluate_zoo(
    models_dir: Path, questions: int, seed: int, progress: Callable[[str], None], kv: KVSettings = _KV
) -> ZooReport:
    """Evaluate both models of `models_dir` (`small` and `large`) on the same questions. Raises ModelError."""
    rng = Random(seed)  # noqa: S311 - a draw of questions, not of secrets
    drawn = held_out_questions(rng, questions)
    small, large = (ask(models_dir / name, drawn, progress, kv) for name in ("small", "large"))
    return make_report(drawn, small, large, seed)
