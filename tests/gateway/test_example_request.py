import json
import shlex
from pathlib import Path
from typing import get_args

import pytest

from config.load import parse_settings
from gateway.example_request import ExamplePath, example_path, example_request

MODELS = ("penstock", "org/model", "it's", 'a "quoted" one', "$HOME", "modèle")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("path", get_args(ExamplePath))
def test_a_shell_reads_what_was_meant(model: str, path: ExamplePath) -> None:
    words = shlex.split(example_request("http://h:1", model, key=False, path=path))
    assert words[2] == f"http://h:1{path}"
    assert json.loads(words[-1])["model"] == model


def test_a_server_with_keys_wants_one() -> None:
    assert example_request("http://h:1", "m", key=True).endswith('-H "authorization: Bearer $PENSTOCK_KEY"')


@pytest.mark.parametrize(
    ("architectures", "path"),
    [
        (["BertModel"], "/v1/embeddings"),
        (["BertForSequenceClassification"], "/classify"),
        (["BertForSequenceClassification", "BertModel"], "/v1/embeddings"),
        (["BertForSequenceClassification", "LlamaForCausalLM"], "/v1/chat/completions"),
    ],
)
def test_where_the_first_request_goes(architectures: list[str], path: str, tmp_path: Path) -> None:
    for name in architectures:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"architectures": [name]}))
    engines = "".join(f'[engines."{name}"]\nmodel = "{name}"\n' for name in architectures)
    first = (
        f'[models.m]\n[[routes]]\nname = "all"\nuse = {{ ladder = "all" }}\n[[ladders.all]]\nto = "{architectures[0]}"'
    )
    assert example_path(parse_settings(f"schema = 1\n{engines}{first}\n", tmp_path / "p.toml")) == path
