"""A file says what computes, and a device for each rank of each replica if it names devices."""

from pathlib import Path

import pytest

from config.load import parse_settings
from config.model.settings import EngineSettings
from config.problems.errors import ConfigError

TEXT = """
schema = 1
[engines.mine]
model = "m"
{lines}
[models.chat]
[[routes]]
name = "all"
use = {{ ladder = "mine" }}
[[ladders.mine]]
to = "mine"
"""


def engine_of(*lines: str) -> EngineSettings:
    return parse_settings(TEXT.format(lines="\n".join(lines)), Path("/etc/p.toml")).engines["mine"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['devices = ["cuda:0", "cuda:1"]'], "2 devices for 1 replicas of 1 ranks"),
        (["replicas = 2", "tensor_parallel = 2", 'devices = ["cuda:0", "cuda:1"]'], "replicas · tensor_parallel, 4"),
        (["tensor_parallel = 2", 'device = "cuda"'], "2 ranks cannot share the device cuda"),
        (["replicas = 0"], "1 to 64"),
        (['reasoning = "thoughts"'], "thought"),
        (['reasoning_markers = ["<a>"]'], "['<a>'] are not two markers"),
        (['reasoning_markers = ["<a>", ""]'], "are not two markers"),
        (['reasoning_markers = ["<a> ", "</a>"]'], "without white space around them"),
        (['reasoning = "think"', 'reasoning_markers = ["<a>", "</a>"]'], 'reasoning = "think" says otherwise'),
    ],
)
def test_what_does_not_add_up(lines: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        engine_of(*lines)
    assert said in str(caught.value)
