from random import Random

import pytest
import torch

from config.model.settings import EngineSettings, KVSettings
from config.model.table import Bytes
from engine.errors import ModelError
from engine.memory.kv_swap import KvSwap
from engine.scheduling.host_blocks import Move
from engine.tensor_parallel.runner import load_runner
from tests.parity import models

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BLOCKS, SLOTS = 7, 3


@pytest.mark.parametrize("seed", range(5))
def test_copies_are_done_in_the_order_in_which_they_are_asked_for(seed: int) -> None:
    """Compared with single copies of numbers that stand for whole blocks, also with pools of different shapes."""
    rng = Random(seed)
    device, host = [float(block) for block in range(BLOCKS)], [0.0] * SLOTS
    number = torch.arange(BLOCKS, dtype=torch.float32, device=DEVICE)
    pools = [
        number.view(1, -1, 1, 1).repeat(2, 1, 3, 4).bfloat16(),
        number.view(1, -1, 1).repeat(2, 1, 5),
    ]
    swap = KvSwap(pools, SLOTS)
    for _ in range(4):
        moves = []
        for out in (True, False, True, False):
            # Within consecutive copies in one direction no block occurs twice.
            moves += [Move(block, rng.randrange(SLOTS), out) for block in rng.sample(range(BLOCKS), rng.randrange(4))]
        swap.apply(moves)
        for move in moves:
            if move.out:
                host[move.slot] = device[move.block]
            else:
                device[move.block] = host[move.slot]
        for pool in pools:
            assert pool[0].flatten(1)[:, 0].float().tolist() == device
            assert bool((pool == pool[:1, :, :1] if pool.dim() == 3 else pool == pool[:1, :, :1, :1]).all())


def test_slots_are_counted_in_whole_blocks() -> None:
    pools = [torch.zeros(2, BLOCKS, 3, 4), torch.zeros(2, BLOCKS, 5, dtype=torch.int8)]
    block_bytes = 2 * 3 * 4 * 4 + 2 * 5
    assert KvSwap.slots(pools, 0) == 0
    assert KvSwap.slots(pools, 3 * block_bytes + block_bytes - 1) == 3


def test_on_a_cpu_it_is_refused_and_why(tmp_path) -> None:
    directory = models.write_model("llama", tmp_path)
    kv = KVSettings(memory=Bytes(2**21), swap=Bytes(2**20))
    with pytest.raises(ModelError, match=r"raise kv\.memory instead"):
        load_runner(EngineSettings(model=directory, kv=kv))
