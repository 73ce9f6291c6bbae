"""The base class of all tables of the TOML file, and the types of durations, sizes, times and ranges."""

from typing import Annotated

import msgspec

from config.model.bounds import Finite, within

AUTO = 0
"""The value of a number or size that is "auto" or not given."""


class Seconds(float):
    """A duration; written "250ms", "2s", "10m", "6h" or "1d" in TOML."""


class Bytes(int):
    """A size; written "512KiB", "64MiB" or "2GiB" in TOML."""


PositiveSeconds = Annotated[Seconds, within(0, above=True)]
NonNegativeSeconds = Annotated[Seconds, within(0)]
PositiveBytes = Annotated[Bytes, within(1)]
NonNegativeBytes = Annotated[Bytes, within(0)]
AutoBytes = Annotated[Bytes, within(1, auto=True)]
"""A size, or "auto"."""
AutoCount = Annotated[int, within(1, auto=True)]
"""A number, or "auto"."""


class ClockTime(int):
    """A time of day, in minutes after midnight; written "22:30" in TOML."""


class Moment(float):
    """A point in time, in seconds since 1970; written 2027-01-31T00:00:00Z in TOML, always with an offset."""


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A TOML table: frozen, keyword only, no unknown keys."""


class Range(Table, frozen=True):
    """Bounds of a number; inclusive below and exclusive above."""

    at_least: Finite | None = None
    below: Finite | None = None
