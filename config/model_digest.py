"""Computes a digest of a model folder. A calibration stores it, to be compared with the weights that are served."""

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

from config.model.settings import EngineSettings

_MAX_FULL_BYTES = 256 << 20
"""Weights up to this size are read in full, in well under a second."""
_SAMPLE_BYTES = 1 << 16
_MAX_HEADER_BYTES = 100 << 20
"""The limit of the safetensors format."""


def served_digest(engine: EngineSettings) -> str:
    """Digest of the weights that `engine` computes with, including quantization on load. Raises OSError."""
    digest = model_digest(engine.model)
    if engine.quantization is None:
        return digest
    quantized = f"{digest} {engine.quantization} {engine.quantization_group}"
    return hashlib.sha256(quantized.encode()).hexdigest()


def model_digest(model: Path) -> str:
    """SHA-256 over the configuration, the tokenizer and the weights.

    Of weights above 256 MiB only the headers (names, types and shapes) and 64 KiB at the start, middle and end of each
    tensor are read: training changes all of them, and reading everything would delay a start by minutes.

    Raises:
        OSError: a file is missing or cannot be read.
    """
    weights = sorted(model.glob("*.safetensors"))
    in_full = sum(path.stat().st_size for path in weights) <= _MAX_FULL_BYTES
    total = hashlib.sha256()
    for path in sorted([*weights, model / "config.json", model / "tokenizer.json"]):
        total.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            is_read_in_full = in_full or path not in weights
            for piece in iter(partial(file.read, 1 << 20), b"") if is_read_in_full else _samples(file):
                total.update(piece)
    return total.hexdigest()


def _samples(file: IO[bytes]) -> Iterator[bytes]:
    length = file.read(8)
    header = file.read(min(int.from_bytes(length, "little"), _MAX_HEADER_BYTES))
    yield length + header
    try:
        spans = [entry["data_offsets"] for name, entry in json.loads(header).items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return  # loading the model reports the fault
    start = 8 + len(header)
    for begin, end in sorted(spans):
        for at in (begin, (begin + end) // 2, max(begin, end - _SAMPLE_BYTES)):
            file.seek(start + at)
            yield file.read(min(_SAMPLE_BYTES, end - at))
