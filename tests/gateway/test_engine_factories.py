"""What each replica of an engine, and each of its ranks, is loaded with."""

from engine.tensor_parallel.ranks import rank_settings
from gateway.engine_factories import replica_settings
from tests.config.check.test_engines import engine_of


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
