"""Estimates how difficult a prompt is, in microseconds and without a model.

A logistic function of a few counts. The weights are set by hand, not fitted: they only order clearly different prompts
("hi" < "What is 17 + 25?" < a page of requirements with code). With enough traffic a trained score could replace it.

    z = -2.6 + 1.3 · log10(1 + chars / 80)   longer prompts tend to be harder
             + 4.0 · digits / chars          arithmetic, tables
             + 1.2 · [code]                  a code fence, or braces, brackets and semicolons above 3 %
             + 0.5 · min(constraints, 4)     "must", "exactly", "without" ...: conditions to satisfy
             + 0.6 · min(reasoning, 2)       "prove", "explain", "step by step" ...
             + 0.15 · min(turns - 1, 6)      later turns depend on more context
"""

import math

import msgspec

LOOKED_AT_CHARS = 2000
"""Only the last part of a text is examined, where the question mostly is; but the full length counts."""

# Substring and byte counts are ten times as fast as a regular expression or a loop over characters.
_CONSTRAINTS = (" must ", "exactly", " only ", "without", " at least ", " at most ", " each ", " not ")
_REASONING = ("prove", "derive", "explain", "compare", "step by step", "algorithm")
_DIGITS = b"0123456789"
_CODE = b"{}[];=<>"


class Term(msgspec.Struct, frozen=True):
    """One summand of z."""

    word: str
    adds: float


_WORDS = ("begin", "length", "digits", "code", "constraints", "reasoning", "turns")


def complexity(text: str, turns: int = 1) -> float:
    """0 (trivial) .. 1 (hard). `turns` counts the user's turns, this one included."""
    return 1 / (1 + math.exp(-sum(_summands(text, turns))))


def complexity_terms(text: str, turns: int = 1) -> tuple[Term, ...]:
    """The summands of z, for explanations."""
    return tuple(Term(word, adds) for word, adds in zip(_WORDS, _summands(text, turns), strict=True))


def _summands(text: str, turns: int) -> tuple[float, ...]:
    part = text[-LOOKED_AT_CHARS:].lower()
    seen = len(part) or 1
    count = part.count
    raw = part.encode("ascii", "replace")
    digits = len(raw) - len(raw.translate(None, _DIGITS))
    symbols = len(raw) - len(raw.translate(None, _CODE))
    return (
        -2.6,
        1.3 * math.log10(1 + len(text) / 80),
        4.0 * digits / seen,
        1.2 if "```" in part or symbols > 0.03 * seen else 0.0,
        0.5 * min(sum(map(count, _CONSTRAINTS)), 4),
        0.6 * min(sum(map(count, _REASONING)), 2),
        0.15 * min(max(turns, 1) - 1, 6),
    )
