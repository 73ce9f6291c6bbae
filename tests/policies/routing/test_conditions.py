"""The fields of conditions, with features for which they hold and for which they do not."""

import datetime as dt
import zoneinfo

import pytest

from config.model.conditions import LoadCondition, SignalSettings, TimeCondition
from config.model.routing import RouteSettings, Use
from config.model.settings import Settings
from config.model.table import ClockTime, Range
from config.model.tenancy import SLO, TierSettings
from policies.model.features import Features
from policies.model.load import BreakerView, EngineLoad, Load
from policies.routing.conditions import condition_compiler
from policies.routing.route_match import Matcher


def features(**given: object) -> Features:
    base = {"model": "m", "tenant": "acme", "tier": "default", "prompt_tokens": 100, "max_tokens": 50}
    return Features(**{**base, **given})  # type: ignore[arg-type]


def settings(*routes: SignalSettings, **signals: SignalSettings) -> Settings:
    return Settings(
        schema=1,
        engines={},
        models={},
        tiers={"default": TierSettings(slo=SLO(ttft=2.0)), "gold": TierSettings(slo=SLO(ttft=0.5))},  # type: ignore[arg-type]
        signals=signals,
        routes=tuple(RouteSettings(name=f"r{i}", use=Use(ladder="l"), when=when) for i, when in enumerate(routes)),
        ladders={"l": ()},
    )


def load(**fields: object) -> Load:
    return Load(engines={"e": EngineLoad(name="e", **fields)})  # type: ignore[arg-type]


BUSY_RUNGS = Load(breakers={"e": BreakerView("open", 1), "other": BreakerView("half_open", 1)})
TABLE = [
    # condition, features for which it holds, features for which it does not
    (SignalSettings(model=("m", "n")), features(model="n"), features(model="o")),
    (SignalSettings(tenant=("acme",)), features(), features(tenant="m")),
    (SignalSettings(tier=("gold",)), features(tier="gold"), features(tenant="gold")),
    (SignalSettings(path=("/v1/completions",)), features(path="/v1/completions"), features()),
    (SignalSettings(language=("de",)), features(language="de"), features()),
    (SignalSettings(tag=("x", "y")), features(tags=frozenset({"y", "z"})), features(tags=frozenset({"z"}))),
    (SignalSettings(has=("tools",)), features(has=frozenset({"tools"})), features()),
    (
        SignalSettings(header={"X-Team": ("a", "b")}),
        features(headers={"x-team": "b"}),
        features(headers={"x-team": "c"}),
    ),
    (SignalSettings(header={"x-team": ("a",)}), features(headers={"x-team": "a"}), features(headers={"x-other": "a"})),
    (SignalSettings(prompt_tokens=Range(at_least=100)), features(), features(prompt_tokens=99)),
    (SignalSettings(prompt_tokens=Range(below=101)), features(), features(prompt_tokens=101)),
    (SignalSettings(prompt_tokens=Range(at_least=1, below=100)), features(prompt_tokens=99), features()),
    (SignalSettings(max_tokens=Range(at_least=51)), features(max_tokens=51), features(prompt_tokens=51)),
    (SignalSettings(turn=Range(at_least=2)), features(turn=2), features(turn=1)),
    (SignalSettings(complexity=Range(at_least=0.5)), features(complexity=0.5), features(code=0.5)),
    (SignalSettings(code=Range(at_least=0.5)), features(code=0.5), features(complexity=0.5)),
    (SignalSettings(budget_used=Range(at_least=0.9)), features(budget_used=0.9), features(budget_used=0.89)),
    (SignalSettings(not_=SignalSettings(model=("m",))), features(model="n"), features()),
    (SignalSettings(model=("m",), tenant=("acme",)), features(), features(tenant="b")),
    (
        SignalSettings(any=(SignalSettings(model=("n",)), SignalSettings(turn=Range(at_least=3)))),
        features(turn=3),
        features(),
    ),
    (
        SignalSettings(all=(SignalSettings(model=("m",)), SignalSettings(turn=Range(at_least=3)))),
        features(turn=3),
        features(),
    ),
    (SignalSettings(signal=("long", "late")), features(turn=9), features(turn=8)),
    (SignalSettings(signal=("long", "late")), features(prompt_tokens=500), features()),
]
SIGNALS = {
    "long": SignalSettings(prompt_tokens=Range(at_least=500)),
    "late": SignalSettings(turn=Range(at_least=9)),
}


@pytest.mark.parametrize(("when", "taken", "not_taken"), TABLE)
def test_a_condition(when: SignalSettings, taken: Features, not_taken: Features) -> None:
    test = condition_compiler(settings(**SIGNALS))(when)
    for request, holds in ((taken, True), (not_taken, False)):
        assert test.holds(request, Load()) is holds
        assert test.find(request, Load()).holds is holds


@pytest.mark.parametrize(("when", "taken", "not_taken"), TABLE)
def test_a_route_matches_like_its_condition(when: SignalSettings, taken: Features, not_taken: Features) -> None:
    """In any order: the cached candidates for one request's names must not be used for another's."""
    for order in ((taken, not_taken), (not_taken, taken)):
        matcher = Matcher(settings(when, SignalSettings(), **SIGNALS))
        for _ in range(2):
            assert [matcher.match(each, Load()).route for each in order] == [
                "r0" if each is taken else "r1" for each in order
            ]


@pytest.mark.parametrize(
    ("condition", "taken", "not_taken"),
    [
        (LoadCondition(of="e", kv_usage=Range(at_least=0.9)), load(kv_usage=0.9), load(kv_usage=0.89)),
        (LoadCondition(of="e", kv_usage=Range(below=0.9)), load(kv_usage=0.89), Load()),
        (
            LoadCondition(of="e", queue_wait_over_slo=Range(at_least=1)),
            load(expected_wait_s=2.0),
            load(expected_wait_s=1.9),
        ),
        (LoadCondition(of="e", queue_wait_over_slo=Range(below=1)), load(expected_wait_s=1.9), Load()),
        (LoadCondition(of="e", breaker=("open", "half_open")), BUSY_RUNGS, load()),
        (LoadCondition(of="other", breaker=("open",)), Load(breakers={"other": BreakerView("open", 1)}), BUSY_RUNGS),
        (LoadCondition(of="new", breaker=("closed",)), BUSY_RUNGS, Load(breakers={"new": BreakerView("open", 1)})),
    ],
)
def test_a_condition_on_the_load(condition: LoadCondition, taken: Load, not_taken: Load) -> None:
    test = condition_compiler(settings())(SignalSettings(load=condition))
    assert [test.holds(features(), each) for each in (taken, not_taken)] == [True, False]


def test_a_wait_is_measured_against_the_tier_of_the_request() -> None:
    when = SignalSettings(load=LoadCondition(of="e", queue_wait_over_slo=Range(at_least=1)))
    test = condition_compiler(settings())(when)
    half_a_second = load(expected_wait_s=0.5)
    assert [test.holds(features(tier=tier), half_a_second) for tier in ("gold", "default", "none")] == [
        True,
        False,
        False,
    ]


def clock(text: str) -> ClockTime:
    hours, minutes = text.split(":")
    return ClockTime(int(hours) * 60 + int(minutes))


@pytest.mark.parametrize(
    ("span", "days", "holds", "does_not"),
    [
        # 2026-03-02 is a Monday; in UTC.
        ("09:00-17:00", (), ["mon 09:00", "sun 16:59"], ["mon 08:59", "mon 17:00"]),
        ("09:00-17:00", ("mon", "tue"), ["mon 09:00", "tue 12:00"], ["wed 12:00", "sun 12:00", "mon 18:00"]),
        ("22:00-06:00", (), ["mon 22:00", "tue 00:00", "tue 05:59"], ["mon 21:59", "tue 06:00"]),
        # The days are those on which the span begins: Monday's night ends on Tuesday morning.
        ("22:00-06:00", ("mon",), ["mon 22:00", "mon 23:59", "tue 00:00", "tue 05:59"],
         ["mon 05:59", "mon 00:00", "tue 06:00", "tue 22:00", "wed 00:00"]),
        # Sunday's night ends on Monday: the week wraps around.
        ("22:00-06:00", ("sun",), ["sun 22:00", "mon 00:00", "mon 05:59"], ["sun 05:59", "mon 06:00", "mon 22:00"]),
        ("22:00-06:00", ("sat", "sun"), ["sat 23:00", "sun 01:00", "sun 23:00", "mon 01:00"],
         ["sat 01:00", "mon 23:00", "tue 01:00"]),
        # An end that is not after its begin: a whole day from it on.
        ("12:00-12:00", ("mon",), ["mon 12:00", "mon 23:00", "tue 11:59"], ["mon 11:59", "tue 12:00"]),
        ("00:00-24:00", ("mon",), ["mon 00:00", "mon 23:59"], ["tue 00:00", "sun 23:59"]),
        ("22:00-24:00", ("mon",), ["mon 22:00", "mon 23:59"], ["tue 00:00", "mon 21:59"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_hours_and_days(span: str, days: tuple[str, ...], holds: list[str], does_not: list[str], zone: str) -> None:
    begin, end = span.split("-")
    condition = TimeCondition(from_=clock(begin), to=clock(end), days=days, zone=zone)  # type: ignore[arg-type]
    test = condition_compiler(settings())(SignalSettings(time=condition))
    week = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

    def at(moment: str) -> Features:
        day, time = moment.split(" ")
        minutes = int(clock(time))
        local = dt.datetime(2026, 3, 2 + week.index(day), minutes // 60, minutes % 60, tzinfo=zoneinfo.ZoneInfo(zone))
        return features(at=local.timestamp())

    assert [moment for moment in holds if not test.holds(at(moment), Load())] == []
    assert [moment for moment in does_not if test.holds(at(moment), Load())] == []
    facts = {moment: test.facts(at(moment), Load())[0] for moment in (holds[0], does_not[0])}
    assert facts[holds[0]].startswith(f"time is {holds[0]}, {begin} to {end} {zone}")
    assert facts[does_not[0]].startswith(f"time is {does_not[0]}, not {begin} to {end} {zone}")
