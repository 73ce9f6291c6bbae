"""Plans made from settings, features and load."""

from pathlib import Path

import msgspec
import pytest

from config.load import load_settings, parse_settings
from config.model.routing import BreakerSettings
from config.model.settings import Settings
from config.profiles import embedded_profile
from policies.fallback.fallback_machine import FallbackMachine, Try
from policies.model.features import Features
from policies.model.load import BreakerView, EngineLoad, Load
from policies.model.plan import Plan
from policies.routing.busy import BusyBook
from policies.routing.policy import Policy, make_plan

TEXT = """\
schema = 1
[engines.small]
model = "s"
[engines.large]
model = "l"
[models.chat]
[tiers.default]
slo = { ttft = "2s" }
[signals.busy]
load = { of = "large", queue_wait_over_slo = { at_least = 0.8 } }
[[routes]]
name = "chat"
use = { cascade = "thrifty" }
deadlines = { ttft = "3s", stall = "4s", total = "50s" }
caps = { output_tokens = 64 }
midstream = "continue"
[cascades.thrifty]
stages = ["small", "large"]
defer = { threshold = 1.5 }
emit = { mode = "window", window = 6 }
skip_to_large = { complexity = { at_least = 0.7 } }
when_busy = { signal = "busy", stay_on = "small", release_at = 0.5, dwell = "10s" }
on_failure = "safe"
[[ladders.safe]]
to = "large"
retries = 1
ttft = "1s"
[[ladders.safe]]
to = "small"
mark = "degraded"
breaker = { probes = 7 }
[[ladders.safe]]
answer = "Please try again."
"""
SAME = {"small": "t", "large": "t"}


@pytest.fixture
def service() -> Settings:
    return parse_settings(TEXT, Path("/etc/x.toml"))


def plan(
    settings: Settings, load: Load | None = None, tokenizers: dict[str, str] | None = None, **given: float
) -> Plan:
    policy = Policy.compile(settings, SAME if tokenizers is None else tokenizers)
    features = Features(model="chat", tenant="a", tier="default", prompt_tokens=10, max_tokens=5, **given)  # type: ignore[arg-type]
    return make_plan(policy, features, load or Load(), 100.0)


def test_a_route_may_replace_the_emit_of_its_cascade(service: Settings) -> None:
    text = TEXT.replace(
        'midstream = "continue"', 'emit = { mode = "verified", draft_tokens = 9 }\nmidstream = "continue"'
    )
    cascade = plan(parse_settings(text, Path("/etc/x.toml"))).cascade
    assert cascade is not None
    assert (cascade.mode, cascade.draft_tokens, cascade.threshold) == ("verified", 9, 1.5)


def test_a_plan_contains_the_whole_decision(service: Settings) -> None:
    made = plan(service)
    assert (made.route, made.ttft_at, made.total_at, made.stall_s) == ("chat", 103.0, 150.0, 4.0)
    assert (made.output_cap, made.midstream) == (64, "continue")
    assert [rung.to for rung in made.rungs] == ["large", "small", None]
    assert (made.rungs[0].retries, made.rungs[0].ttft_s, made.rungs[1].mark) == (1, 1.0, "degraded")
    cascade = made.cascade
    assert cascade is not None
    assert (cascade.small.to, cascade.large.to, cascade.threshold) == ("small", "large", 1.5)
    assert (cascade.mode, cascade.window, cascade.start_on, cascade.may_escalate) == ("window", 6, "small", True)


@pytest.mark.parametrize(
    ("load", "tokenizers", "given", "start_on", "why"),
    [
        (Load(), SAME, {}, "small", "default"),
        (Load(), SAME, {"choices": 2}, "large", "several_choices"),
        (Load(), {"small": "t", "large": "u"}, {}, "large", "tokenizers_differ"),
        (Load(), {}, {}, "large", "tokenizers_differ"),
        (Load(), SAME, {"complexity": 0.8}, "large", "asked_large"),
        (Load(busy=frozenset({("thrifty", "default")})), SAME, {}, "small", "busy"),
        (Load(engines={"small": EngineLoad(name="small", healthy=False)}), SAME, {}, "large", "small_unavailable"),
    ],
)
def test_verified_drafts_only_where_a_draft_can_be_used(load, tokenizers, given, start_on, why) -> None:
    text = TEXT.replace(
        '{ mode = "window", window = 6 }', '{ mode = "verified", draft_tokens = 9, off_above_batch = 3 }'
    )
    made = plan(parse_settings(text, Path("/etc/x.toml")), load, tokenizers, **given)
    cascade = made.cascade
    assert cascade is not None
    assert (cascade.start_on, cascade.why) == (start_on, why)
    drafts = why == "default"
    assert cascade.drafts == drafts
    assert (cascade.draft_tokens, cascade.off_above_batch) == (9, 3)
    assert drafts or len(made.reasons) > 1
    effect = FallbackMachine(made).start(100.0)
    assert isinstance(effect, Try)
    assert (effect.rung, effect.drafted, effect.watched) == ("large" if drafts else start_on, drafts, False)


def test_hard_requests_skip_to_large(service: Settings) -> None:
    made = plan(service, complexity=0.8)
    assert made.cascade is not None
    assert (made.cascade.start_on, made.cascade.why) == ("large", "asked_large")
    assert "skips to large: complexity 0.8 >= 0.7" in made.reasons


def test_a_busy_large_engine_keeps_requests_on_small_with_hysteresis(service: Settings) -> None:
    book = BusyBook(service)

    def busy(wait_s: float, now: float) -> bool:
        load = Load(engines={"large": EngineLoad(name="large", expected_wait_s=wait_s)})
        load = msgspec.structs.replace(load, busy=book.update(load, now))
        cascade = plan(service, load, complexity=0.9).cascade
        assert cascade is not None
        if cascade.why == "busy":
            assert (cascade.start_on, cascade.may_escalate) == ("small", False)
        return cascade.why == "busy"

    assert not busy(1.5, 0.0)
    assert busy(1.6, 1.0)
    assert busy(1.2, 20.0)
    assert not busy(0.9, 21.0)
    assert busy(1.7, 22.0)
    assert busy(0.0, 31.0)
    assert not busy(0.0, 32.0)


def test_a_request_does_not_start_on_an_engine_that_is_down(service: Settings) -> None:
    down = Load(engines={"small": EngineLoad(name="small", healthy=False)})
    made = plan(service, down)
    assert made.cascade is not None
    assert (made.cascade.start_on, made.cascade.why) == ("large", "small_unavailable")


@pytest.mark.parametrize(
    ("load", "tokenizers", "why"),
    [
        (Load(breakers={"large": BreakerView("open", 1, 3.0)}), SAME, "large cannot serve now"),
        (Load(engines={"large": EngineLoad(name="large", healthy=False)}), SAME, "large cannot serve now"),
        (Load(), {"small": "t", "large": "u"}, "tokenizers differ or are unknown"),
        (Load(), {}, "tokenizers differ or are unknown"),
    ],
)
def test_nothing_is_released_early_that_large_could_not_continue(
    service: Settings, load: Load, tokenizers: dict[str, str], why: str
) -> None:
    made = plan(service, load, tokenizers)
    assert made.cascade is not None
    assert made.cascade.mode == "gate"
    assert any(why in reason for reason in made.reasons)


def test_nothing_is_released_early_with_a_statistic_that_may_rise(service: Settings) -> None:
    name, cascade = next(iter(service.cascades.items()))
    defer = msgspec.structs.replace(cascade.defer, statistic="low_quantile")
    changed = {name: msgspec.structs.replace(cascade, defer=defer)}
    made = plan(msgspec.structs.replace(service, cascades=changed), Load(), SAME)
    assert made.cascade is not None
    assert made.cascade.mode == "gate"
    assert any("low_quantile decides at an answer's end only" in reason for reason in made.reasons)


def test_every_engine_has_one_breaker(service: Settings) -> None:
    assert Policy.compile(service).breakers == {"small": BreakerSettings(probes=7), "large": BreakerSettings()}


def test_the_digest_depends_only_on_what_decides(service: Settings) -> None:
    def digest(text: str) -> str:
        return Policy.compile(parse_settings(text, Path("/elsewhere/y.toml"))).digest

    first = Policy.compile(service).digest
    assert len(first) == 12
    assert digest("# a comment\n" + TEXT.replace('name = "chat"', 'name = "chat"\nowner = "me"')) == first
    assert digest(TEXT.replace("threshold = 1.5", "threshold = 1.6")) != first
    assert digest(TEXT.replace("retries = 1", "retries = 2")) != first


def test_the_embedded_profile_plans() -> None:
    settings = load_settings(embedded_profile())
    policy = Policy.compile(settings, SAME)
    rungs = {}
    for model in settings.models:
        features = Features(model=model, tenant="anonymous", tier="default", prompt_tokens=9, max_tokens=9)
        made = make_plan(policy, features, Load(), 0.0)
        rungs[model] = (made.cascade is not None, [rung.to for rung in made.rungs])
    assert rungs == {
        "penstock": (True, ["large", "small"]),
        "small": (False, ["small", "large"]),
        "large": (False, ["large", "small"]),
    }
