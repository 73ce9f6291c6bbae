"""Asynchronous copies between host and device."""

from math import isnan
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.errors import bad_logits
from engine.scheduling.batch import Sampled


class Chosen(NamedTuple):
    """Sampled tokens on the device."""

    token_ids: Tensor
    """[rows] int64"""
    margins: Tensor
    """[rows] float32: best minus second best logit; NaN where a logit of the row is NaN or infinite."""


def to_device(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]], device: torch.device) -> Tensor:
    """Copy to the device; to a GPU through pinned memory, so that the host does not wait."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


class AsyncCopy:
    """An asynchronous copy of a step's sampled tokens to the host."""

    def __init__(self, chosen: Chosen) -> None:
        self._copied: torch.cuda.Event | None = None
        self._token_ids, self._margins = chosen
        if chosen.token_ids.is_cuda:
            self._token_ids, self._margins = (
                torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
                for tensor in chosen
            )
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record()

    def result(self) -> Sampled:
        """Wait for the copy. Raises EngineError: a logit is NaN or infinite."""
        if self._copied is not None:
            self._copied.synchronize()
        margins: list[float] = self._margins.tolist()
        if any(map(isnan, margins)):
            raise bad_logits()
        token_ids: list[int] = self._token_ids.tolist()
        return Sampled(token_ids=token_ids, margins=margins, logprobs=[None] * len(token_ids))
