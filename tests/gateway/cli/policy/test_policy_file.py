"""Policy files as the commands read them: whose tokenizer is whose."""

from pathlib import Path

import pytest

from config.load import load_settings
from gateway.cli.policy.policy_file import backends, tokenizers
from tests.paths import ROOT

TEXT = """\
schema = 1
[engines.small]
model = "small"
[engines.large]
model = "large"
[upstreams.cloud]
urls = ["https://cloud.example/v1"]
model = "m"
tokenizer = "large"
[upstreams.other]
urls = ["https://other.example/v1"]
model = "m"
[models.chat]
[[routes]]
name = "all"
use = { ladder = "l" }
[[ladders.l]]
to = "small"
"""


def digests(folder: Path, **files: str) -> tuple[dict[str, str], tuple[str, ...]]:
    path = folder / "p.toml"
    path.write_text(TEXT)
    for name, content in files.items():
        (folder / name).mkdir()
        (folder / name / "tokenizer.json").write_text(content)
    return tokenizers(load_settings(path))


def test_each_has_its_own(tmp_path: Path) -> None:
    found, notes = digests(tmp_path, small="a", large="b")
    assert found["small"] != found["large"] == found["cloud"]
    assert "other" not in found
    assert notes == ()


@pytest.mark.parametrize("files", [{}, {"large": "b"}])
def test_what_is_not_on_this_machine_is_taken_to_be_the_same(tmp_path: Path, files: dict[str, str]) -> None:
    found, notes = digests(tmp_path, **files)
    assert found["small"] == found["large"] == found["cloud"] != ""
    missing = [name for name in ("small", "large") if name not in files]
    assert notes == (f"no tokenizer.json for {', '.join(missing)} on this machine: taken to share one tokenizer",)


def test_lengths_are_those_of_the_models(tmp_path: Path) -> None:
    zoo = ROOT / "engine/zoo/models/small"
    text = TEXT.replace('model = "small"', f'model = "{zoo}"\nmax_model_len = 100', 1)
    path = tmp_path / "p.toml"
    path.write_text(text)
    known, notes = backends(load_settings(path))
    assert (dict(known.max_model_len), dict(known.encoders)) == ({"small": 100}, {})
    assert notes == ("no model for large on this machine: taken to make text and to hold every prompt",)
    path.write_text(text.replace("max_model_len = 100", 'kv = { memory = "1KiB" }'))
    assert backends(load_settings(path))[0].max_model_len["small"] < 100
