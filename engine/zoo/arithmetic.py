"""Arithmetic questions: sums, differences and products of integers.

Difficulty depends on the operation and on the number of digits and carries, not on the length of the prompt: `7 * 12`
is shorter than `512 + 103` and may be harder.
"""

from random import Random

from engine.zoo.question import ZooQuestion

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
}


def _operands(rng: Random, kind: str, level: int) -> tuple[int, int]:
    if kind == "multiply":
        low, high, most = ((2, 30, 2), (2, 40, 3), (10, 80, 5))[level - 1]
        return rng.randint(low, high), rng.randint(2, most)
    low, high = ((0, 60), (10, 99), (100, 499))[level - 1]
    a, b = rng.randint(low, high), rng.randint(*((0, 9), (10, 99), (10, 199))[level - 1])
    if rng.random() < 0.5:
        a, b = b, a
    return (a, b) if kind == "add" else (max(a, b), min(a, b))


def compute(kind: str, operands: tuple[int, int]) -> int:
    """The exact result of one question."""
    if kind == "multiply":
        return operands[0] * operands[1]
    if kind == "subtract":
        return operands[0] - operands[1]
    return operands[0] + operands[1]


def arithmetic(rng: Random) -> ZooQuestion:
    """One question; the level (1 to 3) sets the digits, the operation is random."""
    level = rng.randint(1, 3)
    kind = rng.choice(("add", "add", "subtract", "subtract", "multiply"))
    operands = _operands(rng, kind, level)
    prompt = rng.choice(_PHRASES[kind]).format(**dict(zip("ab", operands, strict=True)))
    ordered = sorted(operands) if kind in {"add", "multiply"} else operands
    key = " ".join([kind, *map(str, ordered)])
    return ZooQuestion("arithmetic", kind, prompt, str(compute(kind, operands)), level, key)
