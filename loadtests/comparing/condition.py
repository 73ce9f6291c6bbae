"""What must not happen, as CI says it: `ttft_p99>+10%`."""

import re

import msgspec

from loadtests.comparing.measures import Measure, MeasureError, measure

_FORM = re.compile(r"\s*([a-z0-9_.]+)\s*([<>])\s*([+-])\s*([0-9]+(?:\.[0-9]+)?)\s*(%|ms|s|/s|pp)\s*")
_EXAMPLES = "write such as ttft_p99>+10%, e2e_p50>+20ms, goodput<-5% or failed_share>+1pp"
_UNITS = {"s": ("ms", "s"), "/s": ("/s",), "share": ("pp",), "money": ()}


class Condition(msgspec.Struct, frozen=True):
    """B is too far from A."""

    text: str
    measure: Measure
    above: bool
    """Too far above, else below."""
    change: float
    relative: bool
    """`change` is a share of A's value, else in the measure's unit."""


def parse_condition(text: str) -> Condition:
    """Raises MeasureError."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise MeasureError(f"{text!r} is no condition: {_EXAMPLES}")
    name, sign, direction, amount, unit = match.groups()
    what = measure(name)
    if unit != "%" and unit not in _UNITS[what.unit]:
        units = ", ".join(["%", *_UNITS[what.unit]])
        raise MeasureError(f"{text!r}: {name} changes by {units}, not by {unit!r}")
    change = float(amount) * {"%": 0.01, "pp": 0.01, "ms": 0.001}.get(unit, 1.0)
    return Condition(text.strip(), what, sign == ">", change if direction == "+" else -change, unit == "%")
