"""Which decisions two policies take differently, over many requests: from what to what, how many, and one of each."""

import math
from collections.abc import Iterable, Iterator

import msgspec

from policies.authoring.decision import Decision, DecisionOutcome, DecisionRefusal
from policies.cascade.statistic import falls, statistic_of
from policies.model.features import Features
from policies.model.plan import Plan

_NOBODY = "refused"


class Compared(msgspec.Struct, frozen=True):
    """One request under both policies."""

    label: str
    """What it is, for whoever reads the example."""
    before: Decision
    after: Decision
    margins: tuple[float, ...] = ()
    """Of the small model's answer as it was recorded; none: unknown."""
    whole: bool = False
    """They are those of the whole answer; else it was given up, and nobody knows how it would have gone on."""


class Shift(msgspec.Struct, frozen=True):
    """Requests that go from the one to the other."""

    before: str
    after: str
    count: int
    share: float
    example: str


class Aspect(msgspec.Struct, frozen=True):
    """One way to look at a decision."""

    name: str
    """"route", "first rung", "cascade", "arm", "escalates"."""
    changed: int
    share: float
    """Of all requests."""
    shifts: tuple[Shift, ...]
    """The most frequent first."""


class DecisionDiff(msgspec.Struct, frozen=True):
    """All of it."""

    requests: int
    changed: int
    """Decided otherwise: another route, arm, rung, order of rungs or way of emitting, or refused."""
    share: float
    terms_only: int
    """The same decision under other terms: threshold, deadlines, caps, retries, what a broken stream does."""
    aspects: tuple[Aspect, ...]
    """Those in which something changed."""


def decision_diff(requests: Iterable[Compared]) -> DecisionDiff:
    """Count."""
    total = changed = terms_only = 0
    found: dict[str, dict[tuple[str, str], tuple[int, str]]] = {}
    for each in requests:
        total += 1
        before, after = DecisionOutcome.of(each.before), DecisionOutcome.of(each.after)
        if before != after:
            changed += 1
        elif _terms(each.before) != _terms(each.after):
            terms_only += 1
        for name, was, now in _aspects(each, before, after):
            if was != now:
                shifts = found.setdefault(name, {})
                count, example = shifts.get((was, now), (0, each.label))
                # The shortest label is the least remarkable request, which shows best what it hangs on.
                shifts[was, now] = (count + 1, min(example, each.label, key=len))
    return DecisionDiff(
        requests=total,
        changed=changed,
        share=_share(changed, total),
        terms_only=terms_only,
        aspects=tuple(_aspect(name, shifts, total) for name, shifts in found.items()),
    )


def _aspect(name: str, shifts: dict[tuple[str, str], tuple[int, str]], total: int) -> Aspect:
    rows = [Shift(was, now, count, _share(count, total), example) for (was, now), (count, example) in shifts.items()]
    rows.sort(key=lambda shift: (-shift.count, shift.before, shift.after))
    changed = sum(shift.count for shift in rows)
    return Aspect(name, changed, _share(changed, total), tuple(rows))


def _share(count: int, total: int) -> float:
    return round(count / total, 6) if total else 0.0


def _aspects(each: Compared, before: DecisionOutcome, after: DecisionOutcome) -> Iterator[tuple[str, str, str]]:
    yield "route", _route(before), _route(after)
    yield "first rung", before.starts_on or _NOBODY, after.starts_on or _NOBODY
    if not before.refused and not after.refused:
        yield "cascade", _cascade(before), _cascade(after)
        yield "arm", before.arm or "none", after.arm or "none"
        yield "all rungs", ", ".join(before.rungs), ", ".join(after.rungs)
    if each.margins:
        yield "escalates", _escalates(each, each.before), _escalates(each, each.after)


def _route(outcome: DecisionOutcome) -> str:
    return f"refused: {outcome.refused}" if outcome.refused else outcome.route


def _cascade(outcome: DecisionOutcome) -> str:
    if outcome.may_escalate is None:
        return "no cascade"
    rule = "may escalate" if outcome.may_escalate else "stays there"
    return f"{outcome.cascade} on {outcome.starts_on}, {rule}, {outcome.mode}"


def _escalates(each: Compared, decision: Decision) -> str:
    """With the recorded answer of the small model under this decision's threshold."""
    if isinstance(decision, DecisionRefusal) or decision.cascade is None:
        return "no cascade"
    cascade = decision.cascade
    if cascade.start_on != "small" or not cascade.may_escalate or cascade.mode == "verified":
        return "not asked"
    # As the cascade's machine reads them: what is no number is no reason for trust, and no answer reaches infinity.
    unsure = not statistic_of(cascade.statistic, each.margins) >= cascade.threshold or cascade.threshold == math.inf
    if not each.whole and not (unsure and falls(cascade.statistic)):
        return "unknown"
    return "yes" if unsure else "no"


def _terms(decision: Decision) -> Decision:
    """The plan but for what tells where it comes from."""
    if not isinstance(decision, Plan):
        return decision
    return msgspec.structs.replace(decision, policy="", reasons=(), ladder="", experiment="")


def label_of(features: Features) -> str:
    """A request in a few words: what is remarkable about it."""
    parts = [features.model, features.tenant]
    parts += sorted(features.tags)
    parts += [f"has {name}" for name in sorted(features.has)]
    parts += [f"{name}={value}" for name, value in sorted(features.headers.items())]
    parts.append(f"{features.prompt_tokens} tokens")
    parts += [f"turn {features.turn}"] if features.turn > 1 else []
    parts += [f"complexity {features.complexity:.3g}"] if features.complexity else []
    parts += [f"budget {features.budget_used:.3g}"] if features.budget_used else []
    return ", ".join(parts)
