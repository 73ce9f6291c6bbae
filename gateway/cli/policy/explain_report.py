"""`penstock policy explain` as text."""

import math

from config.model.units import write_duration
from gateway.cli.terminal import Page, number, percent
from policies.authoring.counterfactual import Counterfactual
from policies.authoring.explanation import CascadeTerms, ExperimentTerms, Explanation, Happened, RouteSeen
from policies.model.features import Features, Requirements
from policies.model.plan import PlannedRung
from policies.routing.conditions import Finding

_MOST_OUTCOMES = 12
_MOST_CHANGES = 3
_YES, _NO = "✓", "✗"
_THRESHOLD_FROM = {
    "file": "from the file",
    "calibration": "from the calibration",
    "steering": "adjusted while serving, to keep the target",
    "arm": "from the calibration, not adjusted while serving, as the arm has its own target",
}


def explanation_page(explanation: Explanation, *, everything: bool = False) -> Page:
    """`everything`: list all single changes that would change the decision, not only the nearest."""
    page = Page()
    page.line(f"policy {explanation.policy}", style="dim")
    _decision(page, explanation)
    for note in explanation.notes:
        page.line(f"note: {note}", style="yellow")
    if explanation.happened is not None:
        _happened(page, explanation.happened)
    _request(page, explanation.features)
    _routes(page, explanation)
    if explanation.budget is not None:
        budget = explanation.budget
        state = f"spent: {budget.when_spent}" if budget.spent else f"when spent: {budget.when_spent}"
        page.heading("Budget")
        page.line(f"{percent(budget.used)} of {number(budget.amount)} a {budget.per} used; {state}", indent=2)
    if explanation.complexity is not None:
        _complexity(page, explanation)
    if explanation.experiment is not None:
        _experiment(page, explanation.experiment)
    if explanation.cascade is not None:
        _cascade(page, explanation.cascade)
    if explanation.refused is None:
        _rungs(page, explanation)
    _would_change(page, explanation.would_change, everything=everything)
    return page


def _decision(page: Page, explanation: Explanation) -> None:
    if explanation.refused is not None:
        page.line(f"refused: {explanation.refused.code}", style="bold red")
        page.line(explanation.refused.message, indent=2)
        return
    page.line(str(explanation.outcome), style="bold green")
    page.line("because " + "; ".join(explanation.reasons), indent=2)


def _happened(page: Page, happened: Happened) -> None:
    page.heading(f"What happened to {happened.request_id}")
    if happened.differs:
        page.line(f"the decision at that time: {happened.differs}", indent=2, style="yellow")
    word = " ".join([part for part in (happened.outcome or "still running", happened.code) if part])
    page.line(word + (f", answered by {happened.rung}" if happened.rung else ""), indent=2)
    for count, attempt in enumerate(happened.attempts, 1):
        why = f"{attempt.why}: {attempt.said}" if attempt.said else attempt.why
        page.line(f"{count}. {attempt.rung}: {attempt.outcome} ({why})", indent=2)
    tokens, timings = happened.tokens, happened.timings
    facts = [f"{tokens.prompt} prompt tokens ({tokens.cached} cached)", f"{tokens.completion} completion tokens"]
    facts += [f"{tokens.discarded} discarded"] if tokens.discarded else []
    named = (("started", timings.started), ("first content", timings.ttft), ("ended", timings.total))
    facts += [f"{word} after {value * 1000:.0f}ms" for word, value in named if value is not None]
    facts += [f"cost {number(happened.cost)}"] if happened.cost else []
    facts += [f"the cascade's statistic {number(happened.statistic)}"] if happened.statistic is not None else []
    page.line(", ".join(facts), indent=2)


def _request(page: Page, features: Features) -> None:
    page.heading("Request")
    parts = [f"model {features.model}", f"tenant {features.tenant}", f"tier {features.tier}", features.path]
    parts += [f"tagged {', '.join(sorted(features.tags))}"] if features.tags else []
    parts += [f"has {', '.join(sorted(features.has))}"] if features.has else []
    parts += [f"{name}: {value}" for name, value in sorted(features.headers.items())]
    parts += [f"{features.prompt_tokens} prompt tokens"]
    parts += [f"{features.max_tokens} output tokens allowed"] if features.max_tokens else []
    parts += _requirements(features.requirements)
    parts += [f"turn {features.turn}", f"complexity {features.complexity:.3g}"]
    page.line(", ".join(parts), indent=2, hang=0)


def _requirements(needs: Requirements) -> list[str]:
    parts = [f"adapter {needs.adapter}"] if needs.adapter else []
    if needs.scores or needs.compared:
        parts.append("wants scores")
    elif needs.decides:
        parts.append("wants the probabilities of answers")
    elif needs.embedding:
        parts.append("wants embeddings" if needs.dimensions is None else f"wants embeddings of {needs.dimensions}")
    parts += [f"'{name}' needs an upstream" for name in needs.upstream_fields]
    parts += [f"bound to {needs.bound_to}"] if needs.bound_to else []
    parts += ["asks how likely its prompt is"] if needs.prompt_logprobs else []
    return parts


def _routes(page: Page, explanation: Explanation) -> None:
    if not explanation.routes:
        return
    page.heading("Routes, in order")
    for route in explanation.routes:
        _route(page, route)
    if explanation.routes_left:
        rest = "route was" if explanation.routes_left == 1 else "routes were"
        page.line(f"{explanation.routes_left} further {rest} not evaluated", indent=2, style="dim")


def _route(page: Page, route: RouteSeen) -> None:
    owner = f" ({route.owner})" if route.owner else ""
    mark = _YES if route.taken else _NO
    if route.finding.kind == "leaf":
        page.line(f"{mark} {route.route}{owner}: {route.finding.text}", indent=2, style=_style(route.taken))
        return
    page.line(f"{mark} {route.route}{owner}", indent=2, style=_style(route.taken))
    for part in route.finding.parts if route.finding.kind == "all" else (route.finding,):
        _finding(page, part, 6)


def _finding(page: Page, finding: Finding, indent: int) -> None:
    mark = _YES if finding.holds else _NO
    text = {"signal": f"signal {finding.text}", "any": "any of", "all": "all of", "not": "not"}
    page.line(f"{mark} {text.get(finding.kind, finding.text)}", indent=indent, style=_style(finding.holds))
    for part in finding.parts:
        _finding(page, part, indent + 4)


def _style(holds: bool) -> str:
    return "green" if holds else "dim"


def _complexity(page: Page, explanation: Explanation) -> None:
    assert explanation.complexity is not None
    page.heading(f"Complexity {explanation.features.complexity:.3g}")
    terms = ", ".join([f"{term.word} {term.adds:+.3g}" for term in explanation.complexity if term.adds])
    z = sum(term.adds for term in explanation.complexity)
    page.line(f"{terms}: z = {z:.3g}, of which the logistic is {1 / (1 + math.exp(-z)):.3g}", indent=2)


def _experiment(page: Page, terms: ExperimentTerms) -> None:
    page.heading(f"Experiment {terms.name}: {f'arm {terms.arm}' if terms.arm else 'not part of it'}")
    arms = ", ".join([f"{arm.name} [{number(arm.begin)}, {number(arm.end)})" for arm in terms.arms])
    if terms.rolled_back:
        page.line("rolled back: all requests are in arm control", indent=2)
    elif terms.place is None:
        page.line(f"the request's {terms.unit} is not known", indent=2)
    else:
        page.line(f"the {terms.unit} is hashed to {terms.place:.4f}", indent=2)
    page.line(f"arms: {arms}", indent=2)


def _cascade(page: Page, terms: CascadeTerms) -> None:
    planned = terms.planned
    page.heading(f"Cascade {planned.name}: {planned.small.to} → {planned.large.to}")
    starts = planned.small.to if planned.start_on == "small" else planned.large.to
    extras = {
        "gate": "nothing is shown before the decision",
        "window": f"the last {planned.window} tokens are held back",
        "verified": f"rounds of {planned.draft_tokens} drafted tokens, above a batch of {planned.off_above_batch} off",
    }
    page.line(f"starts on {starts} ({planned.why}); emits by {planned.mode}: {extras[planned.mode]}", indent=2)
    if planned.start_on == "small":
        page.line("may escalate" if planned.may_escalate else f"stays there ({planned.why})", indent=2)
    if terms.threshold_from == "mode":
        page.line("the large model verifies the drafts: no threshold", indent=2)
    elif terms.threshold_from != "judge":
        source = _THRESHOLD_FROM[terms.threshold_from]
        target = ", ".join([f"{name} {number(value)}" for name, value in terms.target.items()])
        goal = f" for {target}" if target else ""
        page.line(f"escalates where {planned.statistic} < {number(planned.threshold)} nats, {source}{goal}", indent=2)
    if (judge := planned.judge) is not None:
        asked = f'"{judge.predicate}"' if judge.predicate else ", ".join(judge.labels)
        unjudged = "escalates" if judge.on_failure == "escalate" else "is accepted"
        limit = percent(judge.threshold)
        page.line(f"when it is whole, {judge.model} judges it by {asked}: escalates below {limit}", indent=2)
        page.line(f"an answer that cannot be judged {unjudged}", indent=2)
    if terms.calibration is not None:
        known = terms.calibration
        stale = ", STALE" if known.stale else ""
        page.line(
            f"calibration {known.name} of {known.created} ({known.age_days} days old{stale}), {known.prompts} prompts: "
            f"{percent(known.expected_large_share)} expected on {planned.large.to}; at the threshold "
            f"{planned.small.to} is right with P = {number(round(known.probability_right, 3))}",
            indent=2,
        )
    for rung, able in ((planned.small.to, terms.small_can_serve), (planned.large.to, terms.large_can_serve)):
        if not able:
            page.line(f"{_NO} {rung} cannot serve now", indent=2, style="red")
    if terms.busy is not None:
        busy = terms.busy
        state = f"busy: stays on {busy.stay_on}" if busy.holds else "not busy"
        page.line(
            f"{state}; released below {number(busy.release_at)}, not before {write_duration(busy.dwell_s)}; "
            f"signal {busy.signal}:",
            indent=2,
        )
        _finding(page, busy.finding, 6)
    if terms.skip_to_large is not None:
        page.line("skips to the large stage if:", indent=2)
        _finding(page, terms.skip_to_large, 6)


def _rungs(page: Page, explanation: Explanation) -> None:
    page.heading(f"Tried in this order: {', '.join(explanation.way)}")
    for count, rung in enumerate(explanation.rungs, 1):
        page.line(f"ladder {count}. {_rung(rung)}", indent=2)
    for shadow in explanation.shadows:
        page.line(f"shadow {shadow.name}: a copy goes to {shadow.to}", indent=2)
    if explanation.deadlines is not None:
        limits = explanation.deadlines
        queue, ttft, total, stall = map(write_duration, (limits.queue_s, limits.ttft_s, limits.total_s, limits.stall_s))
        page.line(
            f"deadlines: first token {ttft}, total {total} after the arrival; at most {queue} in a queue, "
            f"{stall} between two tokens",
            indent=2,
        )
        if limits.first_by_s is not None:
            by = write_duration(limits.first_by_s)
            page.line(f"a rung refuses at once if its first token is expected after more than {by}", indent=2)
    if explanation.reserved is not None:
        reservation = explanation.reserved
        cost = f", {number(reservation.cost)} of money" if reservation.cost else ""
        output = f"{reservation.output_bound} of each choice's output"
        page.line(f"reserves {reservation.tokens} tokens, {output}{cost}", indent=2)
    if explanation.degraded:
        page.line(f"degraded: {', '.join(explanation.degraded)}", indent=2, style="yellow")
    cap = f"output of {explanation.output_cap} tokens at the most; " if explanation.output_cap is not None else ""
    page.line(f"{cap}if it breaks off in the middle: {explanation.midstream}", indent=2)


def _rung(rung: PlannedRung) -> str:
    what = rung.to if rung.to is not None else f"answer {rung.answer!r}"
    extras = [f"first token within {write_duration(rung.ttft_s)}"] if rung.ttft_s is not None else []
    extras += [f"{rung.retries} {'retry' if rung.retries == 1 else 'retries'}"] if rung.retries else []
    extras += [f"marked {rung.mark}"] if rung.mark else []
    return what + (f" ({', '.join(extras)})" if extras else "")


def _would_change(page: Page, changes: tuple[Counterfactual, ...], *, everything: bool) -> None:
    page.heading("Single changes that would change the decision")
    if not changes:
        page.line("none: every request gets this decision", indent=2)
        return
    by_outcome: dict[str, list[Counterfactual]] = {}
    for change in changes:
        by_outcome.setdefault(change.then, []).append(change)
    outcomes = list(by_outcome.items())
    for then, ways in outcomes if everything else outcomes[:_MOST_OUTCOMES]:
        page.line(then, indent=2, style="cyan")
        for change in ways if everything else ways[:_MOST_CHANGES]:
            page.line(f"if {change.change}  (now {change.now})", indent=6)
        if not everything and len(ways) > _MOST_CHANGES:
            page.line(f"and {len(ways) - _MOST_CHANGES} more of this kind: --all", indent=6, style="dim")
    if not everything and len(outcomes) > _MOST_OUTCOMES:
        page.line(f"and {len(outcomes) - _MOST_OUTCOMES} more outcomes: --all", indent=2, style="dim")
