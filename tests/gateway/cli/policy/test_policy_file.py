"""Policy files as the commands read them: whose tokenizer is whose."""

from pathlib import Path

import pytest

from config.load import load_settings
from gateway.cli.policy.policy_file import tokenizers

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
