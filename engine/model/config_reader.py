"""Reading typed values from a model's `config.json`; shared by decoders and encoders."""

import json
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

from engine.errors import ModelError


def read_config(directory: Path) -> tuple[Path, dict[str, Any]]:
    """The path of `directory/config.json`, and the object in it.

    Raises:
        ModelError: the file is missing or unreadable.
    """
    path = directory / "config.json"
    try:
        raw = json.loads(path.read_bytes())
    except FileNotFoundError:
        hint = "it needs config.json, *.safetensors and tokenizer.json"
        what = "is not a model directory" if directory.is_dir() else "does not exist"
        raise ModelError("model_not_found", f"{directory} {what}: {hint}") from None
    except (OSError, ValueError) as error:
        raise ModelError("model_config", f"{path} cannot be read: {error}") from error
    if not isinstance(raw, dict):
        raise ModelError("model_config", f"{path} must hold a JSON object")
    return path, raw


def architecture_of(raw: dict[str, Any]) -> str:
    """The name of the model's class in transformers."""
    names = raw.get("architectures") or []
    return str(names[0]) if isinstance(names, list) and names else "(none)"


class ConfigReader:
    """Typed access to one config.json; error messages name the file and the key."""

    def __init__(self, path: Path, raw: dict[str, Any], ignored: Collection[str] = ()) -> None:
        """`ignored`: keys that the settings exclude, see `engine.model.config_keys`."""
        self._path = path
        self._ignored = frozenset(ignored)
        self._raw = {key: value for key, value in raw.items() if key not in self._ignored}

    def _unsupported(self, key: str, value: object, why: str) -> ModelError:
        shown = json.dumps(value)[:80]
        return ModelError("model_unsupported", f"{self._path}: {key} = {shown} is not supported: {why}")

    def _bad(self, key: str, why: str) -> ModelError:
        return ModelError("model_config", f"{self._path}: {key}: {why}")

    def _int(self, key: str, default: int | None = None) -> int:
        value = self._raw.get(key)
        if value is None:
            value = default
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._bad(key, f"expected a positive whole number, found {value!r}")
        return value

    def _float(self, key: str, default: float) -> float:
        value = self._raw.get(key)
        if value is None:
            value = default
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self._bad(key, f"expected a number, found {value!r}")
        return float(value)

    def _bool(self, key: str, *, default: bool) -> bool:
        value = self._raw.get(key)
        if value is None:
            value = default
        if not isinstance(value, bool):
            raise self._bad(key, f"expected true or false, found {value!r}")
        return value
