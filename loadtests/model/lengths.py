"""Distributions of lengths, in a scenario: tokens of prompts and outputs, turns of a session, pauses."""

from typing import Annotated

from config.model.bounds import Count, Natural, Positive, within
from config.model.table import NonNegativeSeconds, PositiveSeconds, Seconds, Table


class Lengths(Table, frozen=True):
    """Numbers of tokens or turns: exactly one of `exactly`, `low` with `high`, `median` with `p95`, and `values`."""

    exactly: Count | None = None
    low: Count | None = None
    """With `high`: every number from `low` to `high` is equally likely."""
    high: Count | None = None
    median: Positive | None = None
    """With `p95`: log-normal, as lengths in the field mostly are."""
    p95: Positive | None = None
    values: tuple[Annotated[int, within(1)], ...] = ()
    """Each is equally likely; a value that is written twice is twice as likely."""
    at_most: Count = 1_000_000
    """Greater numbers become this one."""


class PauseTimes(Table, frozen=True):
    """Times: `exactly`, or log-normal by `median` and `p95`."""

    exactly: NonNegativeSeconds | None = None
    median: PositiveSeconds | None = None
    p95: PositiveSeconds | None = None
    at_most: PositiveSeconds = Seconds(3600)
    """Greater times become this one."""


class SharedPrefix(Table, frozen=True):
    """A beginning that prompts share, such as a system prompt: what a prefix cache can save."""

    tokens: Lengths
    """About so many; a word of the tool's own list counts as one."""
    variants: Count = 1
    """So many different ones, equally likely."""


class SessionSettings(Table, frozen=True):
    """A conversation: each turn repeats what was said before, answers included, and waits for the last answer."""

    turns: Lengths
    think: PauseTimes = PauseTimes(exactly=Seconds(0))
    """From the end of an answer to the next question."""
    tool_share: Annotated[float, within(0, 1)] = 0.0
    """Of the turns after the first: how many are a tool's result, and come after `tool` in place of `think`."""
    tool: PauseTimes = PauseTimes(exactly=Seconds(0))
    context: Natural = 0
    """Tokens of history that a turn repeats at most, the latest; 0: all."""
