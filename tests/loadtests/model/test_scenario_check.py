from pathlib import Path

import jsonschema
import pytest

from config.json_schema.schema import file_schema
from config.problems.errors import ConfigError
from loadtests.model.scenario import Scenario
from loadtests.model.scenario_file import load_scenario, parse_scenario
from loadtests.model.timing import arrivals_of, duration_of, warm_up_of
from tests.paths import ROOT

FAULTS = [
    ("duratoin = '9s'", "did you mean 'duration'"),
    ("[arrivals]\nkind = 'closed'", "needs its number of clients"),
    ("[arrivals]\nkind = 'closed'\nclients = 2\nrate = 3", "has no 'rate'"),
    ("[arrivals]\nkind = 'closed'\nclients = 2\nmax_in_flight = 3", "has no 'max_in_flight'"),
    ("[arrivals]\nkind = 'closed'\nclients = 2\nphases = [{ lasts = '1s', rate = 1 }]", "has no phases"),
    ("[arrivals]\nkind = 'poisson'", "there is no rate"),
    ("[arrivals]\nrate = 1\nclients = 3", "max_in_flight"),
    ("[arrivals]\nrate = 1\nphases = [{ lasts = '1s', rate = 1 }]", "their own rates"),
    ("[arrivals]\nrate = 1e6", "requests, and a run has at most"),
    ("warm_up = '30s'\n[arrivals]\nrate = 1", "takes the whole run"),
    ("[target]\nurl = 'localhost:80'", "not an address"),
    ("[target]\nkey = { env = 'A', file = 'b' }", "exactly one of"),
    ("[target]\nheaders = { authorization = 'x' }", "must not be in the file"),
    ("[target]\nheaders = { host = 'x' }", "set by the load tester"),
    ("[[mix]]\ntenant = 'a'", "there is no tenant 'a'"),
    ("[[mix]]\nprefix = 'a'", "there is no shared prefix 'a'"),
    ("[[mix]]\nprompt = {}", "exactly one form"),
    ("[[mix]]\nprompt = { exactly = 1, low = 2, high = 3 }", "exactly one form"),
    ("[[mix]]\nprompt = { low = 3 }", "'low' needs 'high'"),
    ("[[mix]]\nprompt = { median = 9, p95 = 3 }", "below 'median'"),
    ("[[mix]]\nbody = { stream = true }", "'stream' is set by the load tester"),
    ("[[mix]]\nbody = { max_completion_tokens = 5 }", 'max_tokens_field = "max_completion_tokens" in [target]'),
    ("[target]\nmax_tokens_field = 'max_output'", "max_completion_tokens"),
    ("[[mix]]\ntransport = 'whole'\nbehaviour = 'b'\n[behaviours.b]\nleave_after_tokens = 2", "in one piece"),
    ("[[mix]]\ntransport = 'websocket'\nbehaviour = 'b'\n[behaviours.b]\nreconnect_after_tokens = 2", "be resumed"),
    ("[[mix]]\nendpoint = 'completions'\nsession = 's'\n[sessions.s]\nturns = { exactly = 2 }", "has messages"),
    ("[behaviours.b]\nleave_after_tokens = 1\nhalf_open_after_tokens = 2", "'leave_after_tokens' is given, too"),
    ("[tier_slo.gold]\nttft = '1s'", "there is no tier of a tenant 'gold'"),
]


def whole(text: str) -> str:
    rate = "" if "[arrivals]" in text else "\n[arrivals]\nrate = 5\n"
    return f"schema = 1\n{text}\n{rate}"


@pytest.mark.parametrize(("text", "words"), FAULTS)
def test_each_fault_is_said_where_it_is(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_scenario(whole(text), Path("s.toml"))
    assert words in str(caught.value)
    assert all(problem.line for problem in caught.value.problems)


def test_all_problems_come_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_scenario(whole("[target]\nurl = 'x'\n[[mix]]\ntenant = 'a'"), Path("s.toml"))
    assert len(caught.value.problems) == 2


def test_what_is_not_used_is_a_warning() -> None:
    loaded = parse_scenario(whole("[behaviours.b]\nretries = 1"), Path("s.toml"))
    assert [str(each.where) for each in loaded.warnings] == ["behaviours.b"]


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(whole("[target]\nkey = { file = 'k' }\n[tenants.a]\nkey = { file = 'a' }"))
    scenario = load_scenario(tmp_path / "s.toml").scenario
    assert scenario.target.key.file == tmp_path / "k"
    assert scenario.tenants["a"].key.file == tmp_path / "a"


def test_times_of_phases_and_of_the_warm_up() -> None:
    text = "[arrivals]\nphases = [{ lasts = '10s', rate = 0, to = 10 }, { lasts = '5s', rate = 10 }]"
    scenario = parse_scenario(whole(text), Path("s.toml")).scenario
    assert (duration_of(scenario), arrivals_of(scenario), warm_up_of(scenario)) == (15, 100, 1.5)


SCENARIOS = sorted((ROOT / "loadtests" / "scenarios").glob("*.toml"))


@pytest.mark.parametrize("path", SCENARIOS, ids=[path.stem for path in SCENARIOS])
def test_the_scenarios_that_come_along_are_good(path: Path) -> None:
    loaded = load_scenario(path)
    assert loaded.warnings == ()
    assert path.read_text().startswith("# ")


def test_the_schema_knows_every_key() -> None:
    import tomllib

    schema = file_schema(Scenario, "x")
    jsonschema.Draft202012Validator.check_schema(schema)
    for path in SCENARIOS:
        jsonschema.validate(tomllib.loads(path.read_text()), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"schema": 1, "duratoin": "1s"}, schema)
