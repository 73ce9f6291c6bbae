"""Adapters in the configuration: their names, where they may be used, and how many."""

from pathlib import Path

import pytest

from config.load import load, parse_settings
from config.model.settings import Settings
from config.problems.errors import ConfigError

TEXT = """\
schema = 1
[engines.mine]
model = "m"
max_adapters = 2
[engines.mine.adapters.legal]
path = "adapters/legal"
[engines.mine.adapters.sql]
path = "/srv/sql"
[engines.large]
model = "l"
[upstreams.cloud]
urls = ["https://cloud.example/v1"]
[models.chat]
adapters = true
[tiers.default]
[[routes]]
name = "chat"
use = { cascade = "both" }
[cascades.both]
stages = ["mine", "large"]
adapters = { mine = "legal" }
defer = { threshold = 1.0 }
on_failure = "safe"
[[ladders.safe]]
to = "mine"
adapter = "legal"
[[ladders.safe]]
to = "mine"
[[ladders.safe]]
to = "cloud"
[[shadows]]
name = "try"
route = ["chat"]
to = "mine"
adapter = "sql"
share = 0.1
"""


def problems(old: str, new: str) -> list[str]:
    assert old in TEXT
    with pytest.raises(ConfigError) as caught:
        parse_settings(TEXT.replace(old, new), Path("/etc/x.toml"))
    return [f"{problem.where}: {problem.message} ({problem.suggestion})" for problem in caught.value.problems]


def settings() -> Settings:
    return parse_settings(TEXT, Path("/etc/x.toml"))


def test_a_good_file_and_its_paths() -> None:
    adapters = settings().engines["mine"].adapters
    assert {name: str(adapter.path) for name, adapter in adapters.items()} == {
        "legal": "/etc/adapters/legal",
        "sql": "/srv/sql",
    }


def test_unknown_adapters_are_reported_with_the_nearest_word() -> None:
    assert problems('adapter = "legal"', 'adapter = "leagl"') == [
        "ladders.safe[0].adapter: there is no adapter 'leagl' (legal)"
    ]
    assert problems('{ mine = "legal" }', '{ mine = "sqll" }') == [
        "cascades.both.adapters.mine: there is no adapter 'sqll' (sql)"
    ]
    assert problems('adapter = "sql"', 'adapter = "slq"') == ["shadows[0].adapter: there is no adapter 'slq' (sql)"]


def test_only_engines_have_adapters_and_only_some() -> None:
    assert "upstream" in problems('to = "cloud"', 'to = "cloud"\nadapter = "legal"')[0]
    assert problems('{ mine = "legal" }', '{ large = "legal" }') == [
        "cascades.both.adapters.large: the engine 'large' has no adapters ()"
    ]
    assert problems('{ mine = "legal" }', '{ mini = "legal" }') == [
        "cascades.both.adapters.mini: there is no stage 'mini' (mine)"
    ]
    found = problems('[[ladders.safe]]\nto = "cloud"', '[[ladders.safe]]\nanswer = "No."\nadapter = "legal"')
    assert found == ["ladders.safe[2].adapter: a static answer has no adapter ()"]


def test_names_and_number() -> None:
    assert "cannot be an adapter's name" in problems("adapters.sql]", 'adapters."s:l"]')[0]
    assert "can be loaded" in problems("max_adapters = 2", "max_adapters = 1")[0]


def test_the_same_rung_with_and_without_its_adapter_is_no_duplicate(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(TEXT)
    assert [str(warning) for warning in load(tmp_path / "x.toml").warnings if "already" in str(warning)] == []
    (tmp_path / "x.toml").write_text(
        TEXT.replace('[[ladders.safe]]\nto = "mine"\n[[l', '[[ladders.safe]]\nto = "mine"\nadapter = "legal"\n[[l')
    )
    assert "tried already" in str(load(tmp_path / "x.toml").warnings)


def test_a_folder_that_is_none_is_reported_with_the_models(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(TEXT)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "x.toml", made_by=lambda _: None)
    assert "engines.mine.adapters.legal.path" in {problem.where for problem in caught.value.problems}
