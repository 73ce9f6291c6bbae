"""The generated tasks by name, and random questions from either side of the train / held-out split."""

from collections.abc import Callable
from random import Random

from engine.zoo.arithmetic import arithmetic
from engine.zoo.json_tasks import json_work
from engine.zoo.lookups import lookups
from engine.zoo.question import ZooQuestion, is_held_out
from engine.zoo.strings import strings

TASKS: dict[str, Callable[[Random], ZooQuestion]] = {
    "arithmetic": arithmetic,
    "strings": strings,
    "lookups": lookups,
    "json": json_work,
}


def draw(rng: Random, task: str, *, held_out: bool, hardest: int = 3) -> ZooQuestion:
    """One question of `task` from the chosen side of the split, of at most level `hardest`."""
    while True:
        question = TASKS[task](rng)
        if question.difficulty <= hardest and is_held_out(question) == held_out:
            return question


def held_out_questions(rng: Random, count: int) -> list[ZooQuestion]:
    """`count` different held-out questions, cycling through the tasks."""
    names, seen = tuple(TASKS), set[str]()
    chosen: list[ZooQuestion] = []
    while len(chosen) < count:
        question = draw(rng, names[len(chosen) % len(names)], held_out=True)
        if question.prompt not in seen:
            seen.add(question.prompt)
            chosen.append(question)
    return chosen
