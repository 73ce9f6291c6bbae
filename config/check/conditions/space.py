"""The space of requests as far as a file's conditions distinguish them: for every variable, its relevant values.

A request is a point in this space. Variables are treated as independent, except a tenant and its tier. So a conclusion
that something is impossible is certain, while something that seems possible may not be.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator

from config.check.conditions.formula import Every, Formula, Point, Some, Within, negated
from config.model.conditions import INTEGERS, NUMBERS, LoadCondition, SignalSettings, TimeCondition
from config.model.settings import Settings
from config.model.table import Range
from config.model.tenancy import TenantSettings
from config.model.words import ADDRESSES, LANGUAGES
from config.problems.problems import Problems
from config.problems.source_map import Path
from config.tenants import known_tenants

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = 24 * 60
_WEEK = 7 * _DAY
_INFINITY = float("inf")

_LIMITS = {"turn": (1, _INFINITY), "complexity": (0, 1), "code": (0, 1), "kv_usage": (0, 1)}
"""Lowest and highest value of a number; without an entry 0 and infinity."""
_LOADS = ("queue_wait_over_slo", "kv_usage")
_INNER = ("any", "all", "not")
"""Fields that contain conditions: an error inside one does not make the whole field unknown."""
_BREAKERS = ("closed", "open", "half_open")
_UNKNOWN = 1
"""The first value of a load variable means that the load is unknown: no range holds."""

Located = tuple[Path, SignalSettings]


def located(settings: Settings) -> Iterator[Located]:
    """All conditions of the settings with their paths, without those nested in them."""
    for name, signal in settings.signals.items():
        yield ("signals", name), signal
    for index, route in enumerate(settings.routes):
        yield ("routes", index, "when"), route.when
    for name, cascade in settings.cascades.items():
        if cascade.skip_to_large is not None:
            yield ("cascades", name, "skip_to_large"), cascade.skip_to_large


def nested(path: Path, when: SignalSettings) -> Iterator[Located]:
    """The condition and all conditions inside it."""
    yield path, when
    for index, member in enumerate(when.any):
        yield from nested((*path, "any", index), member)
    for index, member in enumerate(when.all):
        yield from nested((*path, "all", index), member)
    if when.not_ is not None:
        yield from nested((*path, "not"), when.not_)


def signal_uses(settings: Settings) -> dict[str, list[str]]:
    """By signal: the signals that its conditions name."""
    return {
        name: [used for _, when in nested((), signal) for used in when.signal]
        for name, signal in settings.signals.items()
    }


class Space:
    """The variables of a file's conditions, and the conditions as formulas over them."""

    def __init__(self, settings: Settings, problems: Problems, *, closed: bool = True) -> None:
        """Places with reported errors are treated as unknown.

        `closed`: only the models and tenants of the file exist; otherwise there may be others.
        """
        self.domains: dict[str, int] = {}
        """By variable: all of its values, as bits."""
        self._settings = settings
        self._problems = problems
        self._values: dict[str, dict[str, int]] = {}
        """By variable and value: the value's number."""
        for variable, known in (("model", settings.models), ("path", ADDRESSES), ("language", LANGUAGES)):
            self._values[variable] = {value: number for number, value in enumerate(known)}
        self._principals = [
            (name, tier)
            for name, tenant in known_tenants(settings).items()
            for tier in _tiers(settings, problems, name, tenant)
        ]
        """(tenant, tier), the values of the variable "principal"."""
        if not closed:
            self._values["model"].setdefault("", len(settings.models))
            self._principals += [("", tier) for tier in settings.tiers]
        self.domains["principal"] = _all(len(self._principals))
        self._tenants: dict[str, int] = {}
        self._tiers: dict[str, int] = {}
        for number, (name, tier) in enumerate(self._principals):
            self._tenants[name] = self._tenants.get(name, 0) | 1 << number
            self._tiers[tier] = self._tiers.get(tier, 0) | 1 << number
        self._marks: dict[str, list[float]] = {}
        """By numeric variable: the lower ends of its intervals."""
        self._zones: dict[str, list[int]] = {}
        """By time zone: the lower ends of its intervals, in minutes of the week."""
        for path, condition in located(settings):
            for _, when in nested(path, condition):
                self._add_variables(when)
        for variable, values in self._values.items():
            self.domains[variable] = _all(len(values))
        for variable, marks in self._marks.items():
            self._marks[variable] = sorted(set(marks))
            self.domains[variable] = _all(len(self._marks[variable]) + ("@" in variable))
        for zone, minutes in self._zones.items():
            self._zones[zone] = sorted({0, *minutes})
            self.domains[f"time@{zone}"] = _all(len(self._zones[zone]))
        self._signals: dict[str, Formula] = {}

    def formula(self, path: Path, when: SignalSettings) -> Formula:
        if self._problems.is_broken(path):
            return self.unknown(path)
        parts: list[Formula] = []
        faulty = 0
        for field, formulas in self._fields(path, when):
            if self._problems.is_touched((*path, field)) and field not in _INNER:
                parts.append(self.unknown((*path, field)))
                faulty += 1
            else:
                parts += formulas
        if self._problems.is_touched(path) and not faulty:
            parts.append(self.unknown(path))
        return Every(tuple(parts))

    def _fields(self, path: Path, when: SignalSettings) -> Iterator[tuple[str, list[Formula]]]:
        """The formulas of every field, which must all hold."""
        for field, wanted in (("model", when.model), ("path", when.path), ("language", when.language)):
            yield field, [self.one_of(field, wanted)] if wanted else []
        yield "tenant", [self.from_principals(tenants=when.tenant)] if when.tenant else []
        yield "tier", [self.from_principals(tiers=when.tier)] if when.tier else []
        for field, words in (("tag", when.tag), ("has", when.has)):
            yield field, [Some(tuple(Within(f"{field} {word}", 0b10) for word in words))] if words else []
        yield "header", [self.one_of(f"header {name}", values) for name, values in when.header.items()]
        for field in NUMBERS:
            bounds = getattr(when, field)
            yield field, [self._in_range(field, bounds)] if bounds is not None else []
        yield "load", self._loaded(when.load) if when.load is not None else []
        yield "time", [self._at(when.time)] if when.time is not None else []
        yield "signal", [Some(tuple(self.signal(name) for name in when.signal))] if when.signal else []
        members = tuple(self.formula((*path, "any", index), member) for index, member in enumerate(when.any))
        yield "any", [Some(members)] if members else []
        yield "all", [self.formula((*path, "all", index), member) for index, member in enumerate(when.all)]
        if when.not_ is not None:
            yield "not", [negated(self.formula((*path, "not"), when.not_), self.domains)]

    def _loaded(self, load: LoadCondition) -> list[Formula]:
        given = [(f"{field}@{load.of}", getattr(load, field)) for field in _LOADS]
        parts = [self._in_range(variable, bounds) for variable, bounds in given if bounds is not None]
        return [*parts, self.one_of(f"breaker {load.of}", load.breaker)] if load.breaker else parts

    def signal(self, name: str) -> Formula:
        path: Path = ("signals", name)
        if name not in self._settings.signals or self._problems.is_broken(path):
            return self.unknown(path)
        if name not in self._signals:
            self._signals[name] = self.unknown(path)  # ends the recursion of a signal that uses itself
            self._signals[name] = self.formula(path, self._settings.signals[name])
        return self._signals[name]

    def forget(self, name: str) -> None:
        """Treat a signal as unknown, so that its fault is not reported again for the conditions that use it."""
        self._signals[name] = self.unknown(("signals", name))

    def unknown(self, path: Path) -> Formula:
        """A formula that may hold or not, independent of everything else."""
        variable = f"unknown {path}"
        self.domains[variable] = 0b11
        return Within(variable, 0b10)

    def example(self, point: Point) -> str:
        """One request of the point, in the form of a test's `given`."""
        values = {variable: point.get(variable, 1) for variable in self.domains}
        first = {variable: (bits & -bits).bit_length() - 1 for variable, bits in values.items()}
        name, tier = self._principals[first["principal"]]
        keys = [f'model = "{list(self._values["model"])[first["model"]]}"', f'tenant = "{name}"', f'tier = "{tier}"']
        keys += [
            f'{field} = "{list(self._values[field])[first[field]]}"' for field in ("path", "language") if field in point
        ]
        for field in ("tag", "has"):
            words = [variable.partition(" ")[2] for variable in first if variable.startswith(f"{field} ")]
            present = [f'"{word}"' for word in words if first[f"{field} {word}"]]
            keys += [f"{field} = [{', '.join(present)}]"] if present else []
        headers = [name for name in self._values if name.startswith("header ") and first[name]]
        if headers:
            pairs = [f'{name.partition(" ")[2]} = "{list(self._values[name])[first[name]]}"' for name in headers]
            keys.append(f"header = {{ {', '.join(pairs)} }}")
        keys += [f"{field} = {self._marks[field][first[field]]:g}" for field in NUMBERS if field in self._marks]
        shown = f"{{ {', '.join(keys)} }}"
        for variable in point:
            if variable.startswith("time@"):
                zone = variable.partition("@")[2]
                day, minute = divmod(self._zones[zone][first[variable]], _DAY)
                shown += f" on {_DAYS[day]} at {minute // 60:02}:{minute % 60:02} in {zone}"
        return shown

    def _add_variables(self, when: SignalSettings) -> None:
        for field, words in (("tag", when.tag), ("has", when.has)):
            self.domains |= {f"{field} {word}": 0b11 for word in words}
        for name, wanted in when.header.items():
            # The first value stands for all other values, and for a missing header.
            values = self._values.setdefault(f"header {name}", {"": 0})
            for value in wanted:
                values.setdefault(value, len(values))
        for field in NUMBERS:
            self._mark(field, field, getattr(when, field))
        if when.load is not None:
            for field in _LOADS:
                self._mark(f"{field}@{when.load.of}", field, getattr(when.load, field))
            self._values.setdefault(f"breaker {when.load.of}", {word: at for at, word in enumerate(_BREAKERS)})
        if when.time is not None:
            minutes = self._zones.setdefault(when.time.zone, [])
            minutes += [edge for span in _spans(when.time) for edge in span if edge < _WEEK]

    def _mark(self, variable: str, field: str, bounds: Range | None) -> None:
        if bounds is None:
            return
        low, high = _LIMITS.get(field, (0, _INFINITY))
        marks = self._marks.setdefault(variable, [low])
        marks += [mark for mark in _edges(bounds, field in INTEGERS) if low < mark <= high and math.isfinite(mark)]

    def one_of(self, variable: str, wanted: Iterable[str]) -> Within:
        values = self._values[variable]
        return Within(variable, sum(1 << values[value] for value in set(wanted) if value in values))

    def from_principals(self, *, tenants: tuple[str, ...] = (), tiers: tuple[str, ...] = ()) -> Within:
        principals = 0
        for known, wanted in ((self._tenants, tenants), (self._tiers, tiers)):
            for name in wanted:
                principals |= known.get(name, 0)
        return Within("principal", principals)

    def _in_range(self, variable: str, bounds: Range) -> Formula:
        """The intervals within the bounds. A mark stands for the values from it up to the next mark."""
        field, of_a_rung, _ = variable.partition("@")
        low, below = _edges(bounds, field in INTEGERS)
        marks = self._marks[variable]
        intervals = _all(bisect_left(marks, below)) & ~_all(bisect_left(marks, low))
        return Within(variable, intervals << _UNKNOWN if of_a_rung else intervals)

    def _at(self, when: TimeCondition) -> Formula:
        minutes = self._zones[when.zone]
        intervals = 0
        for begin, end in _spans(when):
            intervals |= _all(bisect_left(minutes, end)) & ~_all(bisect_left(minutes, begin))
        return Within(f"time@{when.zone}", intervals)


def _tiers(settings: Settings, problems: Problems, name: str, tenant: TenantSettings) -> Iterable[str]:
    """The tiers in which the tenant may be served; all of them if its settings contain an error."""
    path: Path = ("tenants", name)
    if problems.is_touched((*path, "tier")) or problems.is_touched((*path, "budget")):
        return settings.tiers
    downgraded = tenant.budget.downgrade_to if tenant.budget is not None else None
    return (tenant.tier,) if downgraded is None else (tenant.tier, downgraded)


def _spans(when: TimeCondition) -> list[tuple[int, int]]:
    """The spans of the condition, in minutes of the week."""
    spans = []
    for day in when.days or _DAYS:
        start = _DAYS.index(day) * _DAY
        begin, end = start + int(when.from_), start + int(when.to)
        if when.to <= when.from_:
            end += _DAY
        spans += [(begin, min(end, _WEEK))] + ([(0, end - _WEEK)] if end > _WEEK else [])
    return spans


def _edges(bounds: Range, integer: bool) -> tuple[float, float]:
    low = -_INFINITY if bounds.at_least is None else bounds.at_least
    below = _INFINITY if bounds.below is None else bounds.below
    if integer:
        low, below = (float(math.ceil(edge)) if math.isfinite(edge) else edge for edge in (low, below))
    return low, below


def _all(count: int) -> int:
    return (1 << count) - 1
