"""The torch process group through which the ranks of one engine exchange tensors."""

import os
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch.distributed import FileStore, GatherOptions, ProcessGroupGloo  # type: ignore[attr-defined]

from engine.weights.shard import ShardExchange


def join_group(store: str, rank: int, ranks: int, device: torch.device, patience_s: float) -> ShardExchange:
    """Join the group over the file store `store`; gloo for CPUs, NCCL for GPUs.

    A collective in which a rank does not take part within `patience_s` fails with a RuntimeError.
    """
    meeting = FileStore(store, ranks)
    group: Any
    if device.type == "cuda":
        group = _nccl(meeting, rank, ranks, device, patience_s)
    else:
        # torch has no public way to choose the interface, and its stubs lack this one.
        options: Any = ProcessGroupGloo._Options()  # type: ignore[attr-defined]  # noqa: SLF001
        options._devices = [ProcessGroupGloo.create_device(hostname="127.0.0.1")]  # noqa: SLF001
        options._timeout = timedelta(seconds=patience_s)  # noqa: SLF001
        group = ProcessGroupGloo(meeting, rank, ranks, options)

    def total(partial: Tensor) -> Tensor:
        group.allreduce([partial]).wait()
        return partial

    def gather(part: Tensor) -> Tensor:
        part = part.contiguous()
        options = GatherOptions()
        options.rootRank = 0
        parts = [torch.empty_like(part) for _ in range(ranks)] if rank == 0 else []
        group.gather([parts] if parts else [], [part], options).wait()
        return torch.cat(parts, dim=1) if parts else part[:0]

    return ShardExchange(total, gather)


def _nccl(meeting: FileStore, rank: int, ranks: int, device: torch.device, patience_s: float) -> Any:
    from torch.distributed import ProcessGroupNCCL

    # A failed collective must raise an error, not abort the serving process.
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "2")
    torch.cuda.set_device(device)
    options = ProcessGroupNCCL.Options()
    options._timeout = timedelta(seconds=patience_s)  # noqa: SLF001
    return ProcessGroupNCCL(meeting, rank, ranks, options)
