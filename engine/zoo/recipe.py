"""Training recipes: shapes, data mixes, learning rates and seeds. A change here changes the shipped weights."""

import math

import msgspec

from engine.zoo.corpus import Mix
from engine.zoo.llama import LlamaShape
from engine.zoo.tokenizer import VOCABULARY


class Lesson(msgspec.Struct, frozen=True):
    """A number of optimizer steps on one data mix."""

    steps: int
    mix: Mix
    hardest: int = 3
    """Maximum level of questions."""
    hardest_lookups: int = 3


class Stage(msgspec.Struct, frozen=True):
    """One run of the optimizers, from the weights of the previous stage as they are saved, in bfloat16."""

    lessons: tuple[Lesson, ...]
    seed: int
    layers: int
    """Number of layers. Added layers come last and start as identity (their output projections are zero)."""
    matrix_rate: float
    """Muon's learning rate, for the matrices of attention and MLP, scaled to AdamW's update size."""
    vector_rate: float
    """AdamW's learning rate, for the embedding, the head and the norms."""
    level_steps: int = 0
    """Constant rates after the warm-up until this step, then linear decay; 0: cosine decay throughout."""
    kept: float = 0.0
    """Fraction of the previous weights that is averaged into the new ones: recovers what high rates have unlearned, and
    keeps what is new (Wortsman et al., "Model soups", 2022)."""
    tokens_a_step: int = 2048
    """Steps are small on purpose: for few tokens in total, many small steps learned far more than few large ones."""
    warmup_steps: int = 50

    @property
    def steps(self) -> int:
        return sum(lesson.steps for lesson in self.lessons)

    def rate(self, step: int) -> float:
        """Factor of the learning rates at `step`; decays to 1 %."""
        if self.level_steps:
            falling = max(0.01, min(1.0, (self.steps - step) / (self.steps - self.level_steps)))
        else:
            falling = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return min(1.0, (step + 1) / self.warmup_steps) * falling

    def lesson(self, step: int) -> Lesson:
        for lesson in self.lessons:
            if step < lesson.steps:
                return lesson
            step -= lesson.steps
        raise IndexError(f"the stage has {self.steps} steps")


class Recipe(msgspec.Struct, frozen=True):
    """One model: its final shape and its stages."""

    shape: LlamaShape
    stages: tuple[Stage, ...]


# Single questions of all tasks, the easiest first, because copying is learned soonest on short texts.
_FIRST = Mix({"arithmetic": 12, "strings": 5, "lookups": 4, "json": 3})


def _first(steps: int) -> tuple[Lesson, ...]:
    return tuple(Lesson(part * steps // 100, _FIRST, level, level) for part, level in ((10, 1), (15, 2), (75, 3)))


# Look-ups were not learned from single questions within millions of tokens: the passage is long, the answer one word.
# Recitals teach them within minutes, and several questions about one passage transfer this to questions.
_BASE = {"arithmetic": 9, "strings": 4, "lookups": 2, "json": 6}
_FULL = {"arithmetic": 7, "strings": 5, "lookups": 5, "json": 7}


def _recite(steps: int, share: float, bare: float) -> Lesson:
    return Lesson(steps, Mix(_BASE, recitals=share, bare=bare), hardest_lookups=1)


def _ask_about_passages(steps: int) -> Lesson:
    return Lesson(steps, Mix(_FULL, recitals=0.1, passages=0.4), hardest_lookups=2)


def _all(steps: int, passages: float = 0.2) -> Lesson:
    return Lesson(steps, Mix(_FULL, recitals=0.02, passages=passages))


# As trained: the small model had not learned look-ups when the passages began, so recitals follow once more.
_SMALL = (
    _recite(150, 0.6, 1.0),
    _recite(200, 0.6, 0.5),
    _recite(25, 0.5, 0.0),
    _recite(75, 0.6, 0.5),
    _recite(150, 0.5, 0.0),
    _ask_about_passages(100),
    _recite(125, 0.9, 1.0),
    _recite(150, 0.9, 0.5),
    _recite(100, 0.8, 0.0),
    _recite(150, 0.8, 0.4),
    _all(25, 0.12),
    _all(650),
)
_LARGE = (
    _recite(200, 0.6, 1.0),
    _recite(130, 0.6, 0.5),
    _recite(120, 0.5, 0.0),
    _ask_about_passages(110),
    _all(65, 0.12),
    _all(225),
)

_LAST = {"arithmetic": 8, "strings": 4, "lookups": 5, "json": 6}


def _polish(steps: int, passages: float, several: tuple[int, int] = (4, 8)) -> Lesson:
    return Lesson(steps, Mix(_LAST, recitals=0.02, passages=passages, passage_questions=several))


def _turn(steps: int, recitals: float, bare: float, turned: float = 0.7) -> Lesson:
    """Reversed facts: the resident of a city, the city of a thing by its owner."""
    return Lesson(steps, Mix(_LAST, recitals=recitals, bare=bare, turned=turned, passages=0.2))


def _ask_turned(steps: int, tasks: dict[str, int], recitals: float, passages: float) -> Lesson:
    return Lesson(steps, Mix(tasks, recitals=recitals, turned=0.7, passages=passages, passage_questions=(5, 9)))


_SMALL_POLISHED = (_polish(250, 0.25), _polish(940, 0.3, (5, 9)))
_LARGE_POLISHED = (_polish(100, 0.25), _polish(375, 0.45, (5, 9)))
_SMALL_TURNED = (_turn(300, 0.5, 0.5), _turn(300, 0.4, 0.0), _polish(900, 0.3, (5, 9)))
_LARGE_TURNED = (_turn(130, 0.5, 0.5), _turn(130, 0.4, 0.0), _polish(300, 0.3, (5, 9)))
# Almost only recitals: mixed with other data, as in the previous stage, reversed facts were not learned.
_LARGE_RECITED = (
    _turn(150, 0.9, 1.0, 0.8),
    _turn(150, 0.85, 0.5, 0.8),
    _turn(150, 0.8, 0.0, 0.8),
    _ask_turned(150, _LAST, 0.2, 0.5),
    _polish(450, 0.35, (5, 9)),
)
_LARGE_ASKED = (_ask_turned(650, {"arithmetic": 10, "strings": 6, "lookups": 5, "json": 7}, 0.03, 0.3),)

RECIPES: dict[str, Recipe] = {
    "small": Recipe(
        LlamaShape(128, 384, 4, 4, 2, 32, VOCABULARY),
        (
            Stage(_first(1800), 1, 4, 2e-3, 5e-3),
            Stage(_SMALL, 101, 4, 1.5e-3, 3e-3, level_steps=1300, kept=0.25),
            Stage(_SMALL_POLISHED, 201, 4, 8e-4, 1.5e-3, level_steps=1, warmup_steps=20),
            Stage(_SMALL_TURNED, 301, 4, 1e-3, 2e-3, level_steps=500, warmup_steps=20),
        ),
    ),
    "large": Recipe(
        LlamaShape(192, 512, 8, 6, 3, 32, VOCABULARY),
        (
            Stage(_first(4000), 2, 6, 1.5e-3, 5e-3),
            Stage(_LARGE, 102, 8, 1e-3, 2e-3, level_steps=600, kept=0.25),
            Stage(_LARGE_POLISHED, 202, 8, 5e-4, 1e-3, level_steps=1, warmup_steps=20),
            Stage(_LARGE_TURNED, 302, 8, 7e-4, 1.5e-3, level_steps=220, warmup_steps=20),
            Stage(_LARGE_RECITED, 402, 8, 1e-3, 2e-3, level_steps=550, kept=0.15, warmup_steps=20),
            Stage(_LARGE_ASKED, 502, 8, 8e-4, 1.6e-3, level_steps=1, kept=0.3, warmup_steps=20),
        ),
    ),
}
