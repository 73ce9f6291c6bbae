"""Pooling and normalization after an encoder's last layer, read from the files of sentence-transformers."""

import json
from pathlib import Path
from typing import Any, Literal

import msgspec

from engine.errors import ModelError
from engine.text.tokenizer import read_json

Pooling = Literal["mean", "cls"]

_POOLINGS: dict[str, Pooling] = {"mean": "mean", "mean_tokens": "mean", "cls": "cls", "cls_token": "cls"}
_MODE = "pooling_mode"


class Sentence(msgspec.Struct, frozen=True):
    """How the last layer's rows [tokens, hidden] become one vector [hidden]."""

    pooling: Pooling = "mean"
    normalize: bool = False
    """Scale to Euclidean length 1."""
    max_tokens: int | None = None
    """The longest input in tokens that the model is meant for; None: not stated."""


def read_sentence(directory: Path) -> Sentence:
    """Read `modules.json` and the files that it names; the defaults of sentence-transformers without it.

    Raises ModelError: a file cannot be read, or needs what is not supported.
    """
    pooling: Pooling = "mean"
    normalize = False
    for position, (kind, path) in enumerate(_modules(directory)):
        match kind:
            case "Transformer" if position == 0:
                if path:
                    raise _unsupported(directory / "modules.json", f"a transformer in the folder {path}")
            case "Pooling" if position == 1:
                pooling = _pooling(directory / path / "config.json")
            case "Normalize" if position > 1:
                normalize = True
            case _:
                raise _unsupported(directory / "modules.json", f"the module {kind} at place {position}")
    return Sentence(pooling, normalize, _max_tokens(directory / "sentence_bert_config.json"))


def _modules(directory: Path) -> list[tuple[str, str]]:
    """(class name, folder) of each module, in order."""
    path = directory / "modules.json"
    try:
        listed = json.loads(path.read_bytes())
        return [(str(module["type"]).rpartition(".")[2], str(module.get("path") or "")) for module in listed]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError("model_files", f"{path} is not a list of modules: {error!r}") from error


def _pooling(path: Path) -> Pooling:
    """Read both layouts: flags like `pooling_mode_mean_tokens: true`, and a single `pooling_mode`."""
    raw = read_json(path)
    if _MODE in raw:
        named = [str(raw[_MODE])]
    else:
        named = [name.removeprefix(f"{_MODE}_") for name, on in raw.items() if name.startswith(_MODE) and on is True]
    if not named:
        raise ModelError("model_files", f"{path} does not say how to pool: pooling_mode_mean_tokens or another")
    if len(named) > 1 or named[0] not in _POOLINGS:
        raise _unsupported(path, f"pooling by {' and '.join(named)} (mean and cls are)")
    return _POOLINGS[named[0]]


def _max_tokens(path: Path) -> int | None:
    raw = read_json(path)
    if raw.get("do_lower_case"):
        raise _unsupported(path, "do_lower_case (tokenizer.json can do it)")
    value: Any = raw.get("max_seq_length")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelError("model_files", f"{path}: max_seq_length: expected a positive whole number, found {value!r}")
    return value


def _unsupported(path: Path, what: str) -> ModelError:
    return ModelError("model_unsupported", f"{path}: {what} is not supported")
