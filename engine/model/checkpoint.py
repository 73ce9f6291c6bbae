"""Reading tensors by name from the safetensors files of a model directory, single or sharded."""

import json
import math
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.errors import ModelError

_SHOWN = 3
"""Unread tensors that an error names."""


class Checkpoint:
    """The open safetensors files of a model directory, memory-mapped: a tensor is read when it is requested."""

    def __init__(self, directory: Path, *, base: str = "") -> None:
        """`base`: the prefix of a base model's tensors, which files with the base model alone leave out."""
        self.directory = directory
        self._files = {name: self._open(name) for name in self._names(directory)}
        self._where: dict[str, tuple[Any, str]] = {}
        """By name: the file, and the name there."""
        keys = [key for file in self._files.values() for key in file.keys()]  # noqa: SIM118
        left_out = "" if any(key.startswith(base) for key in keys) else base
        for name, file in self._files.items():
            for key in file.keys():  # noqa: SIM118
                if left_out + key in self._where:
                    raise ModelError("model_files", f"{directory}: tensor {key} is in {name} and in another file, too")
                self._where[left_out + key] = file, key
        self._read: set[str] = set()

    @staticmethod
    def _names(directory: Path) -> list[str]:
        index = directory / "model.safetensors.index.json"
        if index.is_file():
            try:
                return sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
            except (ValueError, KeyError, AttributeError) as error:
                raise ModelError("model_files", f"{index} is not an index of safetensors files: {error}") from error
        # A directory may also hold adapters, or the same weights under other names.
        whole = directory / "model.safetensors"
        names = [whole.name] if whole.is_file() else sorted(path.name for path in directory.glob("*.safetensors"))
        if not names:
            raise ModelError("model_files", f"{directory} holds no *.safetensors; convert other formats first")
        return names

    def _open(self, name: str) -> Any:
        path = self.directory / name
        try:
            return safe_open(path, framework="pt")
        except (OSError, SafetensorError) as error:
            raise ModelError("model_files", f"{path} cannot be read as safetensors: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._where.clear()
        self._files.clear()

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def dtype(self, name: str) -> torch.dtype:
        """Dtype of a tensor on disk, without reading it. Raises ModelError if it is none that can be read."""
        codes = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
        file, stored = self._find(name)
        code = file.get_slice(stored).get_dtype()
        if code not in codes:
            raise ModelError(
                "model_unsupported",
                f"{self.directory}: tensor {name} is {code}; float32, bfloat16 and float16 are read",
            )
        return codes[code]

    def take(
        self, name: str, shape: tuple[int, ...], dtype: torch.dtype, cut: tuple[slice, ...] | None = None
    ) -> Tensor:
        """Read a tensor that must have `shape`, or its part `cut`, converted to `dtype`.

        Raises ModelError: the tensor is missing, its shape is not the one that config.json implies, or it has
        non-finite elements.
        """
        stored = self.shape(name)
        if stored != shape:
            raise self._bad(name, f"has shape {list(stored)}, config.json implies {list(shape)}")
        self.dtype(name)
        return self._finite(name, self.tensor(name, cut).to(dtype))

    def take_integers(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Read an int32 or int64 tensor that must have `shape`. Raises ModelError if there is no such tensor."""
        tensor = self.tensor(name)
        if tuple(tensor.shape) != shape or tensor.dtype not in {torch.int32, torch.int64}:
            what = f"is {tensor.dtype} {list(tensor.shape)}, config.json implies integers {list(shape)}"
            raise self._bad(name, what)
        return tensor

    def tensor(self, name: str, cut: tuple[slice, ...] | None = None) -> Tensor:
        """Read a tensor, or a part of it, with its dtype on disk."""
        file, stored = self._find(name)
        tensor: Tensor = file.get_tensor(stored) if cut is None else file.get_slice(stored)[cut]
        self._read.add(name)
        return tensor

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor on disk, without reading it."""
        file, stored = self._find(name)
        return tuple(file.get_slice(stored).get_shape())

    def check_unused(self, harmless: Iterable[str], ignored: Iterable[str]) -> None:
        """After loading, check that only tensors matched by `harmless` (regular expressions) are left unread.

        `ignored`: names with `*` as wildcard, from the engine's settings. Raises ModelError: other tensors are left;
        the message names some.
        """
        known = [re.compile(pattern) for pattern in harmless]
        wildcards = list(ignored)
        left = [
            name
            for name in sorted(self._where.keys() - self._read)
            if not any(pattern.fullmatch(name) for pattern in known)
            and not any(fnmatchcase(name, wildcard) for wildcard in wildcards)
        ]
        if left:
            more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
            raise ModelError(
                "model_unsupported",
                f"{self.directory}: tensor {', '.join(left[:_SHOWN])}{more} is not used by this architecture, so "
                f'results may be wrong; if it does not matter, add ignore_tensors = ["{left[0]}"] to the engine\'s '
                "table (* stands for any part of a name)",
            )

    def _finite(self, name: str, tensor: Tensor) -> Tensor:
        # aminmax propagates NaN. It is three times as fast as a copy of the tensor and ten times as fast as `isfinite`.
        if tensor.numel() and not all(math.isfinite(float(extreme)) for extreme in torch.aminmax(tensor)):
            what = "holds NaN or infinite numbers; the file is broken, or was saved in a type too small for its numbers"
            raise self._bad(name, what)
        return tensor

    def _find(self, name: str) -> tuple[Any, str]:
        found = self._where.get(name)
        if found is None:
            raise self._bad(name, "is missing from the safetensors files")
        return found

    def _bad(self, name: str, what: str) -> ModelError:
        return ModelError("model_tensor", f"{self.directory}: tensor {name} {what}")
