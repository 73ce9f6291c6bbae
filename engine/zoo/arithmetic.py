"""Arithmetic questions: sums, differences, products and three-term chains of whole numbers.

What makes one hard is the number of digits and carries and the operation, so length alone does not tell:
`7 * 86` is shorter than `512 + 103` and harder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.zoo.question import Question

if TYPE_CHECKING:
    from random import Random

_PHRASES = {
    "add": (
        "What is {a} + {b}?",
        "Add {a} and {b}.",
        "Please compute {a} + {b}.",
        "What is the sum of {a} and {b}?",
        "How much is {a}+{b}?",
        "{a} + {b} = ?",
    ),
    "subtract": (
        "What is {a} - {b}?",
        "Subtract {b} from {a}.",
        "Please compute {a} - {b}.",
        "How much is {a} minus {b}?",
        "{a} - {b} = ?",
    ),
    "multiply": (
        "What is {a} * {b}?",
        "Multiply {a} by {b}.",
        "Please compute {a} * {b}.",
        "What is {a} times {b}?",
        "{a} * {b} = ?",
    ),
    "chain": (
        "What is {a} + {b} - {c}?",
        "Add {a} and {b}, then subtract {c}.",
        "Please compute {a} + {b} - {c}.",
        "{a} + {b} - {c} = ?",
    ),
}


def _digits(rng: Random, count: int) -> int:
    """A number of exactly `count` digits."""
    return rng.randint(10 ** (count - 1), 10**count - 1) if count > 1 else rng.randint(0, 9)


def _operands(rng: Random, kind: str, level: int) -> tuple[int, ...]:
    if kind == "multiply":
        if level == 1:
            return rng.randint(2, 12), rng.randint(2, 12)
        return _digits(rng, level), rng.randint(2, 9)
    if kind == "chain":
        a, b = (rng.randint(1, 10 ** min(level, 2)) * (1 if level < 3 else rng.randint(1, 5)) for _ in range(2))
        return a, b, rng.randint(0, a + b)
    a, b = (_digits(rng, rng.choice(((1, 2), (2, 3), (3, 4))[level - 1])) for _ in range(2))
    return (a, b) if kind == "add" else (max(a, b), min(a, b))


def compute(kind: str, operands: tuple[int, ...]) -> int:
    """The exact result of one question."""
    if kind == "multiply":
        return operands[0] * operands[1]
    if kind == "subtract":
        return operands[0] - operands[1]
    return operands[0] + operands[1] - (operands[2] if kind == "chain" else 0)


def arithmetic(rng: Random) -> Question:
    """One question; the level (1 to 3) sets the digits, the operation is drawn."""
    level = rng.randint(1, 3)
    kind = rng.choice(("add", "add", "subtract", "subtract", "multiply", "chain"))
    operands = _operands(rng, kind, level)
    prompt = rng.choice(_PHRASES[kind]).format(**dict(zip("abc", operands, strict=False)))
    ordered = sorted(operands) if kind in {"add", "multiply"} else operands
    key = " ".join([kind, *map(str, ordered)])
    return Question("arithmetic", kind, prompt, str(compute(kind, operands)), level, key)
