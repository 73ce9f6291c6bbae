"""Rerankers, calibrations of decisions and moderations that contradict themselves or the rest of the file."""

from pathlib import Path

import pytest

from config.load import load, parse, parse_settings
from config.problems.errors import ConfigError
from gateway.cli.main import main
from tests.actors.configuration import CONFIG
from tests.paths import ROOT

MODERATION = '[moderations.m]\nmodel = "small"\n[moderations.m.categories.hate]\nlabels = ["toxic"]\n'
UPSTREAM = '[upstreams.cheap]\nurls = ["http://cheap/v1"]\n'
JUDGED = '[cascades.judged]\nstages = ["cheap", "large"]\non_failure = "large-only"\n'
JUDGE = '[cascades.judged.judge]\nmodel = "large"\npredicate = "?"\n'


@pytest.mark.parametrize(
    ("table", "where", "fragment"),
    [
        (
            '[engines.small.rerank]\ntemplate = "{query}"',
            "engines.small.rerank.template",
            "{document} must be there once",
        ),
        (
            '[engines.small.rerank]\ntemplate = "{query} {query} {document}"',
            "engines.small.rerank.template",
            "{query} must be there once",
        ),
        ('[engines.small.rerank]\nyes = ""', "engines.small.rerank.yes", "no characters"),
        ("[decisions.smal]\ntemperature = 2", "decisions.smal", "small"),
        ("[decisions.small]\ntemperature = 0", "decisions.small.temperature", "more than 0"),
        (MODERATION.replace('"small"', '"smal"'), "moderations.m.model", "small"),
        (MODERATION.replace('"toxic"', ""), "moderations.m.categories.hate.labels", "no label"),
        ('[moderations.m]\nmodel = "small"\ncategories = {}', "moderations.m.categories", "nothing is defined"),
        ('[guardrails.g]\nmodel = "smal"\nlabels = ["a"]', "guardrails.g.model", "small"),
        ('[guardrails.g]\nmodel = "small"', "guardrails.g", "a predicate or labels"),
        (
            '[guardrails.g]\nmodel = "small"\nlabels = ["a"]\npredicate = "?"',
            "guardrails.g",
            "a predicate or labels",
        ),
        (
            '[guardrails.g]\nmodel = "small"\nlabels = ["a"]\nguards = ["x*"]',
            "guardrails.g.guards[0]",
            "x*",
        ),
        ('[cascades.gate.judge]\nmodel = "smal"\nlabels = ["a"]', "cascades.gate.judge.model", "small"),
        ('[cascades.gate.judge]\nmodel = "small"', "cascades.gate.judge", "a predicate or labels"),
        ('[cascades.gate.judge]\nmodel = "small"\nthreshold = 2', "cascades.gate.judge.threshold", "0 to 1"),
        (
            f"{JUDGED.replace('cheap', 'small')}target = {{ budget_per_day = 5 }}\n{JUDGE}",
            "cascades.judged.target",
            "the judge decides alone",
        ),
        ('[cascades.window.judge]\nmodel = "small"\npredicate = "?"', "cascades.window.emit.mode", "when it is whole"),
        (f"{MODERATION}threshold = 1.5", "moderations.m.categories.hate.threshold", "0 to 1"),
    ],
)
def test_what_is_refused(table: str, where: str, fragment: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(f"{CONFIG}\n{table}\n", Path("/nowhere/service.toml"))
    assert any(where in str(problem) and fragment in str(problem) for problem in caught.value.problems), caught.value


def test_what_is_read() -> None:
    table = f"{MODERATION}threshold = 0.7\n[decisions.small]\ntemperature = 1.5\n[engines.small.rerank]\n"
    settings = parse_settings(f"{CONFIG}\n{table}", Path("/nowhere/service.toml"))
    assert settings.moderations["m"].categories["hate"].threshold == 0.7
    assert settings.decisions["small"].temperature == 1.5
    assert settings.engines["small"].rerank is not None


def told(table: str) -> str:
    try:
        found = parse(f"{CONFIG}\n{UPSTREAM}{table}", Path("/nowhere/service.toml")).warnings
    except ConfigError as error:
        found = error.problems
    return "\n".join([str(each) for each in found if "cascades.judged" in str(each)])


ONLY_UPSTREAMS = """
schema = 1
[upstreams.cheap]
urls = ["http://127.0.0.1:9/v1"]
model = "cheap"
[[routes]]
name = "all"
use = { ladder = "only" }
[[ladders.only]]
to = "cheap"
[models.chat]
"""


@pytest.mark.parametrize(
    "table",
    [
        '[guardrails.g]\nmodel = "chat"\npredicate = "?"',
        '[cascades.judged]\nstages = ["cheap", "cheap"]\n[cascades.judged.judge]\nmodel = "chat"\nlabels = ["good"]',
    ],
)
def test_without_an_engine_nothing_can_judge(table: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(f"{ONLY_UPSTREAMS}{table}\n", Path("/nowhere/service.toml"))
    assert any("only engines can judge, and there is none" in str(each) for each in caught.value.problems)
    parse_settings(ONLY_UPSTREAMS, Path("/nowhere/service.toml"))


ELSEWHERE = """
[models.remote]
[[ladders.away]]
to = "cheap"
"""
ROUTES = (
    '[[routes]]\nname = "remote"\nwhen = {{ model = ["remote"]{more} }}\nuse = {{ ladder = "away" }}\n'
    '[[routes]]\nname = "small"\n'
)


@pytest.mark.parametrize(
    "table",
    [
        '[guardrails.g]\nmodel = "remote"\npredicate = "?"',
        '[cascades.gate.judge]\nmodel = "remote"\npredicate = "?"',
        MODERATION.replace('"small"', '"remote"'),
    ],
)
def test_what_judges_is_served_by_an_engine(table: str) -> None:
    def problems(more: str) -> str:
        text = CONFIG.replace('[[routes]]\nname = "small"\n', ROUTES.format(more=more))
        try:
            parse_settings(f"{text}{UPSTREAM}{ELSEWHERE}{table}\n", Path("/nowhere/service.toml"))
        except ConfigError as error:
            return str(error)
        return ""

    assert "only engines can judge, and no engine serves 'remote'" in problems("")
    # Others than short prompts reach a later route, which has engines.
    assert "only engines" not in problems(", prompt_tokens = { below = 9 }")


def test_an_upstream_may_be_the_small_stage_of_a_judge() -> None:
    assert "expected an engine, or a judge" in told(JUDGED)
    assert told(f"{JUDGED}{JUDGE}").endswith("nothing uses the cascade 'judged'")
    deferred = told(f"{JUDGED}defer = {{ threshold = 1.0 }}\n{JUDGE}")
    assert "this has no effect: the upstream 'cheap' returns no margins" in deferred


@pytest.mark.parametrize(
    ("made", "table", "said"),
    [
        ("text", '[guardrails.g]\nmodel = "small"\nlabels = ["a"]', "expected a classifier, for labels"),
        ("embeddings", '[guardrails.g]\nmodel = "small"\nlabels = ["a"]', "'small' makes embeddings"),
        (
            "scores",
            '[guardrails.g]\nmodel = "small"\npredicate = "?"',
            "expected a model of text",
        ),
        ("embeddings", '[guardrails.g]\nmodel = "small"\npredicate = "?"', "'small' makes embeddings"),
        ("text", MODERATION, "'small' makes text"),
        ("text", '[cascades.gate.judge]\nmodel = "small"\nlabels = ["a"]', "'small' makes text"),
        ("scores", '[cascades.gate.judge]\nmodel = "small"\npredicate = "?"', "'small' makes scores"),
        ("scores", '[guardrails.g]\nmodel = "small"\nlabels = ["a"]', ""),
        ("text", '[guardrails.g]\nmodel = "small"\npredicate = "?"', ""),
        (None, MODERATION, ""),
    ],
)
def test_what_judges_makes_what_is_asked(tmp_path: Path, made: str | None, table: str, said: str) -> None:
    path = tmp_path / "service.toml"
    path.write_text(f"{CONFIG}\n{table}\n")
    with pytest.raises(ConfigError) as caught:
        load(path, made_by=lambda _: made)  # there are no models: their files are missing in any case
    found = [str(each) for each in caught.value.problems if "cannot judge" in str(each)]
    assert len(found) == bool(said), found
    assert said in "".join(found)


def test_the_models_of_this_machine_are_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "service.toml"
    path.write_text(f"""\
schema = 1
models.chat = {{}}
engines.mine.model = "{ROOT / "engine/zoo/models/small"}"
ladders.only = [{{ to = "mine" }}]
routes = [{{ name = "all", use.ladder = "only" }}]
guardrails.g = {{ model = "chat", labels = ["rude"] }}
""")
    assert main(["check", str(path)]) == 2
    assert "it cannot judge: 'mine' makes text" in capsys.readouterr().err
