"""Reading typed values from a model's `config.json`; shared by decoders and encoders."""

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from engine.errors import ModelError
from engine.model.config_keys import check_keys

T = TypeVar("T")


def read_config(directory: Path) -> tuple[Path, dict[str, Any]]:
    """The path of `directory/config.json`, and the object in it. Raises ModelError if there is none."""
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
    """Typed access to one config.json, or to an object in it; null counts as absent. Errors name file and key."""

    def __init__(self, path: Path, raw: dict[str, Any], ignored: Collection[str] = (), *, within: str = "") -> None:
        """`ignored`: keys that the settings exclude, see `engine.model.config_keys`. `within`: what precedes keys."""
        self._path = path
        self._ignored = frozenset(ignored)
        self._raw = {key: value for key, value in raw.items() if key not in self._ignored}
        self._within = within

    def unsupported(self, key: str, value: object, why: str) -> ModelError:
        shown = f"{self._within}{key} = {json.dumps(value)[:80]}"
        return ModelError("model_unsupported", f"{self._path}: {shown} is not supported: {why}")

    def bad(self, key: str, why: str) -> ModelError:
        return ModelError("model_config", f"{self._path}: {self._within}{key}: {why}")

    def family(self, known: Mapping[str, str], what: str, *, checked: bool) -> str:
        """The model family by the architecture. `checked`: every key must be used or without effect."""
        architecture = architecture_of(self._raw)
        if architecture not in known:
            raise ModelError(
                "model_unsupported",
                f"{self._path}: architecture {architecture} is not supported; {what} are {', '.join(sorted(known))}",
            )
        if checked:
            check_keys(self._path, self._raw, known[architecture], self._ignored)
        return known[architecture]

    def chosen(self, key: str, value: object, known: Mapping[object, T]) -> T:
        """What a name stands for."""
        if value not in known:
            raise self.unsupported(key, value, f"only {', '.join(map(str, known))} are")
        return known[value]

    def whole(self, key: str, default: int | None = None) -> int:
        value = self._given(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.bad(key, f"expected a positive whole number, found {value!r}")
        return value

    def number(self, key: str, default: float) -> float:
        value = self._given(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.bad(key, f"expected a number, found {value!r}")
        return float(value)

    def flag(self, key: str, *, default: bool) -> bool:
        value = self._given(key, default)
        if not isinstance(value, bool):
            raise self.bad(key, f"expected true or false, found {value!r}")
        return value

    def _given(self, key: str, default: object) -> Any:
        value = self._raw.get(key)
        return default if value is None else value
