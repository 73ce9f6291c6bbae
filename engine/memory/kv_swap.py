"""Copies of KV blocks between the device's pool and host memory, in the order requested."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from engine.gpu.async_copy import to_device
from engine.scheduling.host_blocks import Move


class KvSwap:
    """Host memory for swapped blocks. No call waits: on a GPU the copies are queued on the stream of the next step."""

    def __init__(self, pools: Sequence[Tensor], slots: int) -> None:
        """`pools`: tensors [layers, blocks, *page] on the device."""
        self._pools = pools
        self._hosts = [
            torch.zeros(
                (slots, pool.shape[0], *pool.shape[2:]), dtype=pool.dtype, pin_memory=pool.device.type == "cuda"
            )
            for pool in pools
        ]

    @staticmethod
    def slots(pools: Sequence[Tensor], memory_bytes: int) -> int:
        """Number of blocks that `memory_bytes` of host memory hold."""
        return memory_bytes // sum(pool[:, 0].numel() * pool.itemsize for pool in pools)

    def apply(self, moves: Sequence[Move]) -> None:
        """Execute `moves` in order; consecutive moves in one direction share a gather or scatter on the device."""
        for out, run in groupby(moves, key=lambda move: move.out):
            together = list(run)
            for pool, host in zip(self._pools, self._hosts, strict=True):
                (_copy_out if out else _copy_in)(pool, host, together)


def _blocks(moves: Sequence[Move], device: torch.device) -> Tensor:
    return to_device(np.array([move.block for move in moves]), device)


def _copy_out(pool: Tensor, host: Tensor, moves: Sequence[Move]) -> None:
    pages = pool[:, _blocks(moves, pool.device)].transpose(0, 1).contiguous()
    for place, move in enumerate(moves):
        host[move.slot].copy_(pages[place], non_blocking=True)


def _copy_in(pool: Tensor, host: Tensor, moves: Sequence[Move]) -> None:
    pages = torch.empty((len(moves), *host.shape[1:]), dtype=pool.dtype, device=pool.device)
    for place, move in enumerate(moves):
        pages[place].copy_(host[move.slot], non_blocking=True)
    pool[:, _blocks(moves, pool.device)] = pages.transpose(0, 1)
