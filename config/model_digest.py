"""Which weights a model folder holds, as one digest: calibrations keep it, and are compared with what is served."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from config.model.settings import EngineSettings

_WHOLE_BYTES = 256 << 20
"""Folders of weights up to this size are read in full, in well under a second."""
_PIECE_BYTES = 1 << 16
_LONGEST_HEADER = 100 << 20
"""As the safetensors format bounds it."""


def served_digest(engine: EngineSettings) -> str:
    """Of the weights as `engine` computes with them: quantizing on load makes other ones. Raises OSError."""
    digest = model_digest(engine.model)
    if engine.quantization is None:
        return digest
    quantized = f"{digest} {engine.quantization} {engine.quantization_group}"
    return hashlib.sha256(quantized.encode()).hexdigest()


def model_digest(model: Path) -> str:
    """SHA-256 over the configuration, the tokenizer and the weights.

    Of weights beyond 256 MiB it takes the header, which has names, types and shapes, and 64 KiB at the begin, middle
    and end of each tensor: other training changes all of them, and a start does not wait for minutes.

    Raises:
        OSError: a file is not there or cannot be read.
    """
    weights = sorted(model.glob("*.safetensors"))
    whole = sum(path.stat().st_size for path in weights) <= _WHOLE_BYTES
    total = hashlib.sha256()
    for path in sorted([*weights, model / "config.json", model / "tokenizer.json"]):
        total.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            for piece in _all_of(file) if whole or path not in weights else _pieces_of(file):
                total.update(piece)
    return total.hexdigest()


def _all_of(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(1 << 20):
        yield piece


def _pieces_of(file: IO[bytes]) -> Iterator[bytes]:
    length = file.read(8)
    header = file.read(min(int.from_bytes(length, "little"), _LONGEST_HEADER))
    yield length + header
    try:
        spans = [entry["data_offsets"] for name, entry in json.loads(header).items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return  # whoever loads it says what is wrong with it
    start = 8 + len(header)
    for begin, end in sorted(spans):
        for at in (begin, (begin + end) // 2, max(begin, end - _PIECE_BYTES)):
            file.seek(start + at)
            yield file.read(min(_PIECE_BYTES, end - at))
