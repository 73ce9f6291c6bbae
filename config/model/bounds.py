"""The allowed ranges of numbers, as part of a field's type. A field whose type has no bound is not restricted."""

from typing import Annotated, Any

import msgspec
import msgspec.inspect


class Bound(msgspec.Struct, frozen=True):
    """low <= value <= high; with `above` low < value. None: no bound."""

    low: float | None = None
    high: float | None = None
    above: bool = False
    multiple_of: int | None = None

    def __str__(self) -> str:
        if self.low is not None and self.high is not None:
            text = f"{'more than ' if self.above else ''}{self.low:g} to {self.high:g}"
        elif self.low is not None:
            text = f"more than {self.low:g}" if self.above else f"at least {self.low:g}"
        else:
            text = f"at most {self.high:g}"
        return text if self.multiple_of is None else f"{text}, a multiple of {self.multiple_of}"

    def allows(self, value: float) -> bool:
        """Whether the value is in range. False for NaN and infinity."""
        if not float("-inf") < value < float("inf"):
            return False
        if self.low is not None and (value <= self.low if self.above else value < self.low):
            return False
        if self.high is not None and value > self.high:
            return False
        return self.multiple_of is None or value % self.multiple_of == 0


def within(
    low: float, high: float | None = None, *, above: bool = False, multiple_of: int | None = None, auto: bool = False
) -> msgspec.Meta:
    """The bound of a field, for `Annotated`: see `Bound`. `auto`: the field may be "auto" instead."""
    return msgspec.Meta(extra={"bound": Bound(low, high, above, multiple_of), "auto": auto})


def is_64_bit(value: int) -> bool:
    """Whether TOML and MessagePack, in which settings pass between processes, have this whole number."""
    return -(2**63) <= value < 2**63


Count = Annotated[int, within(1)]
Natural = Annotated[int, within(0)]
Port = Annotated[int, within(0, 65_535)]
Share = Annotated[float, within(0, 1)]
PositiveShare = Annotated[float, within(0, 1, above=True)]
NonNegative = Annotated[float, within(0)]
Positive = Annotated[float, within(0, above=True)]
Finite = Annotated[float, within(-1e300, 1e300)]


def bound_of(info: msgspec.inspect.Type) -> Bound | None:
    """The bound in a field's type; None: there is none."""
    bound: Bound | None = _extra(required(info)).get("bound")
    return bound


def bounds_in(table: type[msgspec.Struct]) -> dict[str, Bound]:
    """By field of the table, where it has one."""
    info = msgspec.inspect.type_info(table)
    assert isinstance(info, msgspec.inspect.StructType)
    return {field.name: bound for field in info.fields if (bound := bound_of(field.type)) is not None}


def may_be_auto(info: msgspec.inspect.Type) -> bool:
    """Whether a field of this type may be "auto"."""
    return bool(_extra(info).get("auto"))


def required(info: msgspec.inspect.Type) -> msgspec.inspect.Type:
    """The type without None: TOML has no null, and None means that the key is absent."""
    if not isinstance(info, msgspec.inspect.UnionType):
        return info
    (inner,) = (kind for kind in info.types if not isinstance(kind, msgspec.inspect.NoneType))
    return inner


def plain(info: msgspec.inspect.Type) -> msgspec.inspect.Type:
    """The type without None, bound and "auto"."""
    inner = required(info)
    return inner.type if isinstance(inner, msgspec.inspect.Metadata) else inner


def _extra(info: msgspec.inspect.Type) -> dict[str, Any]:
    return info.extra or {} if isinstance(info, msgspec.inspect.Metadata) else {}
