"""The conclusions about conditions are true for every request."""

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.check.conditions.formula import Within, can_hold, negated
from config.check.conditions.space import Space
from config.load import parse_settings
from config.model.conditions import SignalSettings
from config.model.settings import Settings
from config.model.table import Range
from config.problems.errors import ConfigError
from config.problems.problems import Problems
from config.problems.source_map import SourceMap

BASE = """\
schema = 1
engines.e = { model = "m" }
models = { m = {}, n = {} }
tiers = { default = {}, gold = {} }
tenants = { acme = { tier = "gold" } }
ladders.l = [{ to = "e" }]
"""


def parsed(*whens: str, signals: str = "") -> Settings:
    routes = "".join(f'[[routes]]\nname = "r{i}"\nuse.ladder = "l"\nwhen = {when}\n' for i, when in enumerate(whens))
    return parse_settings(BASE + signals + routes, Path("/x.toml"))


def complaints(*whens: str, signals: str = "") -> list[str]:
    try:
        parsed(*whens, signals=signals)
    except ConfigError as error:
        return [f"{problem.where}: {problem.message}" for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("{}", "{ tag = ['x'] }"),
        ("{ tag = ['x', 'y'] }", "{ tag = ['y'] }"),
        ("{ tag = ['x'] }", "{ tag = ['x'], has = ['tools'] }"),
        ("{ prompt_tokens = { at_least = 10 } }", "{ prompt_tokens = { at_least = 20, below = 30 } }"),
        ("{ prompt_tokens = { at_least = 9.5 } }", "{ prompt_tokens = { at_least = 10 } }"),
        ("{ any = [{ tag = ['x'] }, { turn = { at_least = 3 } }] }", "{ turn = { at_least = 4 } }"),
        ("{ not = { tag = ['x', 'y'] } }", "{ not = { any = [{ tag = ['x'] }, { tag = ['y'] }] } }"),
        ("{ signal = ['s'] }", "{ tag = ['x'], complexity = { at_least = 0.8 } }"),
        ("{ header = { x-app = ['a', 'b'] } }", "{ header = { x-app = ['a'] } }"),
        ("{ tenant = ['acme'] }", "{ tenant = ['acme'], tier = ['gold'] }"),
        ("{ time = { from = '22:00', to = '06:00' } }", "{ time = { from = '23:00', to = '02:00', days = ['sun'] } }"),
        ("{ load = { of = 'e', breaker = ['open', 'half_open'] } }", "{ load = { of = 'e', breaker = ['open'] } }"),
        ("{ load = { of = 'e', kv_usage = { below = 0.9 } } }", "{ load = { of = 'e', kv_usage = { below = 0.5 } } }"),
        ("{ language = ['de', 'en'] }", "{ all = [{ language = ['de'] }, { path = ['/v1/completions'] }] }"),
    ],
)
def test_a_route_after_one_that_takes_all_of_its_requests(earlier: str, later: str) -> None:
    signals = "signals.s = { any = [{ tag = ['x'] }, { tag = ['y'] }] }\n"
    found = complaints(earlier, later, signals=signals)
    assert len(found) == 1
    assert found[0].startswith("routes[1]: the route 'r1' is never reached: 'r0' above takes")
    if earlier != "{}":
        assert complaints(later, earlier, signals=signals) in ([], found), (
            "the other order is fine unless they are equal"
        )


@pytest.mark.parametrize(
    "when",
    [
        "{ model = ['m'], not = { model = ['m', 'n'] } }",
        "{ tenant = ['acme'], tier = ['default'] }",
        "{ complexity = { at_least = 1.5 } }",
        "{ prompt_tokens = { at_least = 5.2, below = 5.8 } }",
        "{ tag = ['x'], not = { tag = ['x'] } }",
        "{ turn = { below = 1 } }",
        "{ all = [{ time = { from = '08:00', to = '09:00' } }, { time = { from = '10:00', to = '11:00' } }] }",
    ],
)
def test_a_condition_that_never_holds(when: str) -> None:
    assert complaints(when, "{}") == ["routes[0].when: the condition of 'r0' never holds"]


@pytest.mark.parametrize(
    "whens",
    [
        ("{ tag = ['x'] }", "{ tag = ['x', 'y'] }"),
        ("{ load = { of = 'e', kv_usage = { at_least = 0 } } }", "{ load = { of = 'e', breaker = ['open'] } }"),
        ("{ load = { of = 'e', kv_usage = { at_least = 0 } } }", "{}"),
        ("{ complexity = { below = 1 } }", "{}"),
        ("{ header = { x-app = ['a'] } }", "{ not = { header = { x-app = ['b'] } } }"),
        ("{ time = { to = '12:00' } }", "{ time = { to = '12:00', zone = 'Asia/Tokyo' } }"),
        ("{ model = ['m'] }", "{ model = ['n'] }", "{}"),
    ],
)
def test_routes_that_can_be_reached(whens: tuple[str, ...]) -> None:
    assert complaints(*whens, *([] if "{}" in whens else ["{}"])) == []


def test_a_fault_in_one_condition_does_not_hide_others() -> None:
    found = complaints("{ tag = ['x'] }", "{ model = ['q'] }", "{ tag = ['x'], model = ['m'] }", "{}", "{}")
    assert [each.split(":")[0] for each in found] == ["routes[1].when.model[0]", "routes[2]", "routes[4]"]


def test_a_fault_of_a_signal_is_reported_only_there() -> None:
    signals = "signals.never = { turn = { below = 1 } }\nsignals.user = { signal = ['never'], tag = ['x'] }\n"
    assert complaints("{ signal = ['user'] }", "{}", signals=signals) == [
        "signals.never: the signal 'never' never holds"
    ]


CONDITIONS = st.recursive(
    st.builds(
        SignalSettings,
        model=st.sampled_from([(), ("m",), ("n", "m")]),
        tag=st.sampled_from([(), ("x",), ("x", "y")]),
        tenant=st.sampled_from([(), ("acme",)]),
        tier=st.sampled_from([(), ("gold",)]),
        prompt_tokens=st.sampled_from([None, Range(at_least=10), Range(at_least=5, below=20)]),
    ),
    lambda inner: st.builds(
        SignalSettings,
        any=st.lists(inner, max_size=3).map(tuple),
        all=st.lists(inner, max_size=2).map(tuple),
        not_=st.none() | inner,
    ),
    max_leaves=8,
)
REQUESTS = list(
    product("mn", [("acme", "gold"), ("anonymous", "default")], product([False, True], repeat=2), [1, 7, 15, 30])
)
SERVICE = parsed("{}")


def holds(when: SignalSettings, request: tuple[str, tuple[str, str], tuple[bool, bool], int]) -> bool:
    model, (tenant, tier), has_tag, tokens = request
    bounds = when.prompt_tokens
    return (
        (not when.model or model in when.model)
        and (not when.tenant or tenant in when.tenant)
        and (not when.tier or tier in when.tier)
        and (not when.tag or any(has for tag, has in zip("xy", has_tag, strict=True) if tag in when.tag))
        and (bounds is None or ((bounds.at_least or 0) <= tokens < (bounds.below or 1e9)))
        and (not when.any or any(holds(member, request) for member in when.any))
        and all(holds(member, request) for member in when.all)
        and (when.not_ is None or not holds(when.not_, request))
    )


@settings(max_examples=300, deadline=None)
@given(takes=st.lists(CONDITIONS, min_size=1, max_size=4))
def test_the_result_is_that_of_trying_every_request(takes: list[SignalSettings]) -> None:
    signals = {str(index): when for index, when in enumerate(takes)}
    space = Space(
        Settings(
            schema=1,
            engines={},
            models=SERVICE.models,
            tiers=SERVICE.tiers,
            tenants=SERVICE.tenants,
            routes=(),
            signals=signals,
        ),
        Problems(Path(), SourceMap("")),
    )
    *earlier, last = [space.signal(name) for name in signals]
    verdict = can_hold([last, *(negated(each, space.domains) for each in earlier)], space.domains)
    reached = any(holds(takes[-1], r) and not any(holds(each, r) for each in takes[:-1]) for r in REQUESTS)
    assert verdict is reached


def test_beyond_the_limit_on_effort_the_result_is_unknown() -> None:
    # The pigeonhole principle: unsatisfiable, and known to take exponential time with this kind of search.
    pigeons, holes = 12, 11
    domains = {f"{pigeon} in {hole}": 0b11 for pigeon in range(pigeons) for hole in range(holes)}
    from config.check.conditions.formula import Some

    somewhere = [Some(tuple(Within(f"{p} in {h}", 0b10) for h in range(holes))) for p in range(pigeons)]
    alone = [
        Some((Within(f"{p} in {h}", 0b01), Within(f"{q} in {h}", 0b01)))
        for h in range(holes)
        for p in range(pigeons)
        for q in range(p)
    ]
    assert can_hold([*somewhere, *alone], domains) is None


def test_signals_that_double_with_every_step_are_refused_at_once() -> None:
    signals = "signals.s0 = { tag = ['x'] }\n" + "".join(
        f"signals.s{i} = {{ any = [{{ signal = ['s{i - 1}'] }}, {{ signal = ['s{i - 1}'], has = ['tools'] }}] }}\n"
        for i in range(1, 40)
    )
    found = complaints("{ signal = ['s39'] }", "{}", signals=signals)
    assert [each for each in found if "more than 1000 conditions" in each] == found
    assert 1 <= len(found) <= 6


def test_ladders_that_double_with_every_step_are_refused_at_once() -> None:
    ladders = "".join(f'ladders.l{i} = [{{ ladder = "l{i - 1}" }}, {{ ladder = "l{i - 1}" }}]\n' for i in range(1, 40))
    found = complaints("{}", signals='ladders.l0 = [{ to = "e" }]\n' + ladders)
    assert [each for each in found if "was tried already" in each] == found
    assert "ladders.l1[1]: the ladder 'l0' was tried already" in found
