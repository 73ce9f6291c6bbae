"""Comparison of two policies on synthetic and recorded requests."""

import msgspec
import pytest

from config.model.settings import Settings
from policies.authoring.decision import Decider
from policies.authoring.policy_diff import Aspect, DecisionDiff, PolicyDiff, label_of, policy_diff
from policies.records.trace import BadTrace, TraceRequest
from tests.policies.authoring.test_explanation import POLICY, SAME, SETTINGS, asking
from tests.policies.authoring.test_settings_diff import read


def compare(
    before: Settings, after: Settings, *, samples: int = 0, trace: tuple[TraceRequest, ...] | None = None
) -> PolicyDiff:
    return policy_diff(Decider(before, SAME), Decider(after, SAME), samples=samples, seed=1, trace=trace)


def aspect(found: DecisionDiff | None, name: str) -> Aspect:
    assert found is not None
    return next(each for each in found.aspects if each.name == name)


def test_the_same_policy_decides_the_same() -> None:
    found = compare(SETTINGS, read(POLICY.replace('owner = "team-support"', 'owner = "us"')), samples=300)
    assert found.decides_the_same
    assert (found.synthetic.requests, found.synthetic.changed, found.synthetic.terms_only) == (300, 0, 0)
    assert [change.decides for change in found.settings] == [False]


def test_what_differs_is_found_without_a_trace() -> None:
    later = compare(SETTINGS, read(POLICY.replace("at_least = 4_000", "at_least = 4_001")), samples=1000)
    # Only requests with exactly 4000 tokens go elsewhere.
    assert later.synthetic.changed > 0
    shifts = aspect(later.synthetic, "route").shifts
    assert {(shift.before, shift.after) for shift in shifts} == {
        ("everything-else", "support-chat"),
        ("nights", "support-chat"),
    }
    assert all("4000 tokens" in shift.example for shift in shifts)
    terms = compare(SETTINGS, read(POLICY.replace('total = "60s"', 'total = "61s"')), samples=300).synthetic
    assert (terms.changed, terms.terms_only > 0) == (0, True)


def recorded(*tokens: int, **more: object) -> tuple[TraceRequest, ...]:
    return tuple(
        TraceRequest(at=number, prompt_tokens=each, output_tokens=9, tenant="acme", tags=("support",), **more)  # type: ignore[arg-type]
        for number, each in enumerate(tokens)
    )


def test_shares_of_a_trace() -> None:
    after = read(POLICY.replace("at_least = 4_000", "at_least = 2_000"))
    found = compare(SETTINGS, after, trace=recorded(10, 1999, 2000, 3999, 4000)).trace
    assert found is not None
    assert (found.requests, found.changed, found.share) == (5, 2, 0.4)
    route = aspect(found, "route")
    (shift,) = route.shifts
    assert (shift.before, shift.after, shift.count, shift.share) == ("support-chat", "everything-else", 2, 0.4)
    assert shift.example == "request 3: chat, acme, support, 2000 tokens"
    (first,) = aspect(found, "first rung").shifts
    assert (first.before, first.after) == ("small", "large")


@pytest.mark.parametrize(
    ("margins", "rung", "before", "after"),
    [
        ((0.9, 1.2, 0.4), "large", "yes", "yes"),
        ((0.9, 1.2, 0.4), "small", "yes", "yes"),
        ((0.9, 1.2, 0.5), "small", "no", "yes"),
        ((0.9, 1.2, 0.7), "small", "no", "no"),
    ],
)
def test_escalations_of_recorded_answers(margins: tuple[float, ...], rung: str, before: str, after: str) -> None:
    trace = recorded(10, margins=margins, rung=rung)
    found = compare(SETTINGS, read(POLICY.replace("threshold = 0.46", "threshold = 0.6")), trace=trace).trace
    assert found is not None
    assert (found.changed, found.terms_only) == (0, 1)
    shifts = [(shift.before, shift.after) for each in found.aspects for shift in each.shifts]
    assert shifts == ([(before, after)] if before != after else [])


def test_what_was_never_seen_is_unknown() -> None:
    # It escalated at 0.4; it is unknown whether a later margin would have been below 0.3.
    trace = recorded(10, margins=(0.6, 0.4), rung="large")
    found = compare(SETTINGS, read(POLICY.replace("threshold = 0.46", "threshold = 0.3")), trace=trace).trace
    (shift,) = aspect(found, "escalates").shifts
    assert (shift.before, shift.after) == ("yes", "unknown")
    quantile = read(POLICY.replace("threshold = 0.46", 'statistic = "low_quantile", threshold = 0.46'))
    (shift,) = aspect(compare(SETTINGS, quantile, trace=trace).trace, "escalates").shifts
    assert (shift.before, shift.after) == ("yes", "unknown")


def test_a_tenant_that_only_one_of_them_has() -> None:
    gone = read(POLICY.replace("[tenants.bob]", "[tenants.bert]"))
    trace = tuple(msgspec.structs.replace(each, tenant="bob") for each in recorded(10))
    (shift,) = aspect(compare(SETTINGS, gone, trace=trace).trace, "route").shifts
    assert (shift.before, shift.after) == ("everything-else", "refused: invalid_api_key")
    with pytest.raises(BadTrace, match="bob"):
        compare(gone, SETTINGS, trace=trace)


GUARDED = """
[guardrails.first]
model = "chat"
predicate = "Is it rude?"
[guardrails.second]
model = "chat"
predicate = "Is it a secret?"
"""


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("rude", "kind", False),
        ("guardrails.first", "guardrails.third", False),  # the order of the two, which their names do not give
        ("", "[moderations.m]\nmodel = 'chat'\ncategories.bad.labels = ['x']", False),
        ("", "[decisions.small]\ntemperature = 2.0", False),
        ("", "[media]\nimage_tokens = 7", False),
        ("", "[quarantine]\ncrashes = 5", False),
        ("", "[batch]\nprice = 0.25", False),
        ("", "[batch]\nmax_lines = 7", True),
        ("", "[watchdog]\nledger = '99s'", True),
        ("", "[log]\nrequests = false", True),
    ],
)
def test_the_digest_has_what_decides_about_requests(old: str, new: str, same: bool) -> None:
    before = POLICY + GUARDED
    after = before.replace(old, new) if old else f"{before}{new}\n"
    found = compare(read(before), read(after), samples=10)
    assert found.settings
    assert found.decides_the_same == same
    assert any(change.decides for change in found.settings) != same


def test_a_label_names_a_few_tags() -> None:
    features = asking(tag=tuple(f"tag-{number:02}" for number in range(40))).features
    assert "tag-00, tag-01, tag-02, 37 more tags, 100 tokens" in label_of(features)


def test_progress_is_reported_while_requests_are_decided() -> None:
    seen: list[int] = []
    policy_diff(Decider(SETTINGS), Decider(SETTINGS), samples=2500, seed=0, progress=seen.append)
    assert seen == [0, 1000, 2000]
