"""Devices of the ranks of all replicas."""

from pathlib import Path

import pytest

from config.load import parse_settings
from config.model.settings import EngineSettings
from config.problems.errors import ConfigError
from engine.tensor_parallel.ranks import rank_settings
from gateway.engine_factories import replica_settings

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
    ("lines", "fragment"),
    [
        (['devices = ["cuda:0", "cuda:1"]'], "2 devices for 1 replicas of 1 ranks"),
        (["replicas = 2", "tensor_parallel = 2", 'devices = ["cuda:0", "cuda:1"]'], "replicas · tensor_parallel, 4"),
        (["tensor_parallel = 2", 'device = "cuda"'], "2 ranks cannot share the device cuda"),
        (["replicas = 0"], "1 to 64"),
    ],
)
def test_what_does_not_add_up(lines: list[str], fragment: str) -> None:
    with pytest.raises(ConfigError) as caught:
        engine_of(*lines)
    assert fragment in str(caught.value)


def test_devices_are_assigned_replica_by_replica() -> None:
    devices = ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]
    engine = engine_of("replicas = 2", "tensor_parallel = 2", f"devices = {devices}".replace("'", '"'))
    replicas = replica_settings("mine", engine)
    assert list(replicas) == ["mine/0", "mine/1"]
    assigned = [[rank.device for rank in rank_settings(replica)] for replica in replicas.values()]
    assert assigned == [devices[:2], devices[2:]]
    assert [rank.device for rank in rank_settings(engine)] == devices[:2]
    (rank,) = [rank for replica in replicas.values() for rank in rank_settings(replica) if rank.device == "cuda:3"]
    assert (rank.devices, rank.replicas, rank.tensor_parallel) == ((), 1, 1)


def test_without_devices_all_ranks_use_the_same_one() -> None:
    replicas = replica_settings("mine", engine_of("replicas = 2"))
    assert [rank.device for replica in replicas.values() for rank in rank_settings(replica)] == ["cpu", "cpu"]
    (rank,) = rank_settings(replica_settings("mine", engine_of('device = "cuda:1"'))["mine"])
    assert rank.device == "cuda:1"
