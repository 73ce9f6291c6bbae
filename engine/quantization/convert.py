"""`penstock engine quantize`: write a quantized copy of a model directory."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from engine.errors import ModelError
from engine.model.checkpoint import Checkpoint
from engine.model.model_config import read_model_config
from engine.quantization.config import Quantization, quantization, read_quantization, to_config
from engine.quantization.scheme import Scheme
from engine.quantization.tensors import quantized, to_tensors

_SHARD_BYTES = 2 * 2**30
_COPIED = ("*.json", "*.jinja", "*.model", "*.txt", "LICENSE*", "NOTICE*", "README*")
_INDEX = "model.safetensors.index.json"
_EMBEDDING, _HEAD = "model.embed_tokens", "lm_head"


class Summary(msgspec.Struct, frozen=True):
    """Result of a conversion; bytes are the sum over all tensors."""

    matrices: int
    bytes_before: int
    bytes_after: int


def quantize_model(model: Path, out: Path, scheme: Scheme, progress: Callable[[str], None]) -> Summary:
    """Write `model`, quantized, to the folder `out`, which must be new or empty, and copy its other files.

    A head tied to the embedding becomes a separate quantized tensor, because the embedding is not quantized. Raises
    ModelError: the model cannot be read, is quantized already or does not fit the scheme; `out` cannot be written.
    """
    config = read_model_config(model, None)
    if read_quantization(model) is not None:
        raise ModelError("quantization", f"{model} is quantized already; start from its original weights")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError("quantization", f"{out} exists and is not an empty folder; choose another place")
    rules = quantization(scheme)
    with torch.inference_mode(), Checkpoint(model) as checkpoint:
        tied = f"{_HEAD}.weight" not in checkpoint if config.tied_head is None else config.tied_head
        try:
            out.mkdir(parents=True, exist_ok=True)
            shards = _Shards(out)
            for tensors in _converted(checkpoint, rules, tied=tied, progress=progress):
                shards.add(tensors)
            shards.close()
            _copy(model, out)
            raw = json.loads((model / "config.json").read_bytes())
            raw |= {"tie_word_embeddings": False, "quantization_config": to_config(rules)}
            (out / "config.json").write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")
        except (OSError, SafetensorError) as error:
            raise ModelError("quantization", f"{out} cannot be written: {error}") from error
        before = sum(checkpoint.tensor(name).nbytes for name in checkpoint)
    return Summary(shards.matrices, before, shards.bytes_in_all)


def _converted(
    checkpoint: Checkpoint, rules: Quantization, *, tied: bool, progress: Callable[[str], None]
) -> Iterator[dict[str, Tensor]]:
    """The tensors of the new files, a few at a time."""
    sources = {name: name for name in sorted(checkpoint) if not (tied and name == f"{_HEAD}.weight")}
    if tied:
        sources[f"{_HEAD}.weight"] = f"{_EMBEDDING}.weight"
    for number, (name, source) in enumerate(sources.items(), 1):
        module, shape = name.removesuffix(".weight"), checkpoint.shape(source)
        matrix = module != name and len(shape) == 2 and module != _EMBEDDING
        scheme = rules.scheme(module) if matrix else None
        if scheme is None:
            yield {name: checkpoint.tensor(source)}
            continue
        progress(f"quantizing {module} ({number} of {len(sources)} tensors)")
        weight = checkpoint.take(source, shape, torch.float32)
        yield to_tensors(module, quantized(module, weight, scheme))


class _Shards:
    """Writer of safetensors files of bounded size, and of their index if there are several."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._tensors: dict[str, Tensor] = {}
        self._waiting = 0
        self._files: list[list[str]] = []
        self.matrices = 0
        self.bytes_in_all = 0

    def add(self, tensors: dict[str, Tensor]) -> None:
        size = sum(tensor.nbytes for tensor in tensors.values())
        if self._tensors and self._waiting + size > _SHARD_BYTES:
            self._write()
        self._tensors |= {name: tensor.contiguous() for name, tensor in tensors.items()}
        self._waiting += size
        self.bytes_in_all += size
        self.matrices += len(tensors) > 1

    def _path(self, number: int) -> Path:
        return self._out / f"model-{number:05}.safetensors"

    def _write(self) -> None:
        self._files.append(list(self._tensors))
        save_file(self._tensors, self._path(len(self._files)), metadata={"format": "pt"})
        self._tensors, self._waiting = {}, 0

    def close(self) -> None:
        self._write()
        if len(self._files) == 1:
            self._path(1).rename(self._out / "model.safetensors")
            return
        where = {name: self._path(number).name for number, names in enumerate(self._files, 1) for name in names}
        index = {"metadata": {"total_size": self.bytes_in_all}, "weight_map": where}
        (self._out / _INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _copy(model: Path, out: Path) -> None:
    for pattern in _COPIED:
        for path in sorted(model.glob(pattern)):
            if path.is_file() and path.name not in {"config.json", _INDEX}:
                shutil.copyfile(path, out / path.name)
