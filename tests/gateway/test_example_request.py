import json
import shlex

import pytest

from gateway.example_request import example_request

MODELS = ("penstock", "org/model", "it's", 'a "quoted" one', "$HOME", "modèle")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("embeds", [False, True])
def test_a_shell_reads_what_was_meant(model: str, *, embeds: bool) -> None:
    words = shlex.split(example_request("http://h:1", model, key=False, embeds=embeds))
    assert words[2] == ("http://h:1/v1/embeddings" if embeds else "http://h:1/v1/chat/completions")
    assert json.loads(words[-1])["model"] == model


def test_a_server_with_keys_wants_one() -> None:
    assert example_request("http://h:1", "m", key=True).endswith('-H "authorization: Bearer $PENSTOCK_KEY"')
