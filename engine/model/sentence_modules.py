"""Pooling, normalization and prompts of a model that makes vectors, read from the files of sentence-transformers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from engine.errors import ModelError
from engine.text.tokenizer import read_json

Pooling = Literal["mean", "cls", "last"]

_POOLINGS: dict[str, Pooling] = {
    "mean": "mean",
    "mean_tokens": "mean",
    "cls": "cls",
    "cls_token": "cls",
    "lasttoken": "last",
}
_MODE = "pooling_mode"


class TokenPair(msgspec.Struct, frozen=True):
    """A causal model's answer is read as a score: the logit of one token minus that of another."""

    yes: int
    no: int | None
    """None: the score is the first logit alone."""


class Sentence(msgspec.Struct, frozen=True):
    """How the last layer's rows [tokens, hidden] become one vector [hidden], and what is put before a text."""

    pooling: Pooling = "mean"
    normalize: bool = False
    """Scale to Euclidean length 1."""
    max_tokens: int | None = None
    """The longest input in tokens that the model is meant for; None: not stated."""
    prompts: Mapping[str, str] = {}
    """Texts that may stand before an input, by name."""
    default_prompt: str | None = None
    """The name of the one that stands there if none is requested; None: none does."""
    judged_by: TokenPair | None = None
    """The vector is a score, made of two logits; `pooling` has no meaning then."""

    def prompt(self, name: str | None) -> str | None:
        """The text that is put before an input; None: there is none of this name."""
        chosen = name or self.default_prompt
        return "" if chosen is None else self.prompts.get(chosen)


def read_sentence(directory: Path) -> Sentence:
    """Read `modules.json` and the files that it names; the defaults of sentence-transformers without it.

    Raises ModelError: a file cannot be read, or needs what is not supported.
    """
    pooling: Pooling = "mean"
    normalize = False
    judged_by = None
    for position, (kind, path) in enumerate(_modules(directory)):
        match kind:
            case "Transformer" if position == 0:
                if path:
                    raise _unsupported(directory / "modules.json", f"a transformer in the folder {path}")
            case "Pooling" if position == 1:
                pooling = _pooling(directory / path / "config.json")
            case "LogitScore" if position == 1:
                judged_by = _token_pair(directory / path / "config.json")
            case "Normalize" if position > 1:
                normalize = True
            case _:
                raise _unsupported(directory / "modules.json", f"the module {kind} at place {position}")
    prompts, default = _prompts(directory / "config_sentence_transformers.json")
    longest = _max_tokens(directory / "sentence_bert_config.json")
    return Sentence(pooling, normalize, longest, prompts, default, judged_by)


def has_module(directory: Path, kind: Literal["Pooling", "LogitScore"]) -> bool:
    """Whether `modules.json` lists a module of this class. Raises ModelError if it is malformed."""
    return any(listed == kind for listed, _ in _modules(directory))


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
    if raw.get("include_prompt") is False:
        raise _unsupported(path, "include_prompt = false (a pooling that leaves the prompt out)")
    if _MODE in raw:
        named = [str(raw[_MODE])]
    else:
        named = [name.removeprefix(f"{_MODE}_") for name, on in raw.items() if name.startswith(_MODE) and on is True]
    if not named:
        raise ModelError("model_files", f"{path} does not say how to pool: pooling_mode_mean_tokens or another")
    if len(named) > 1 or named[0] not in _POOLINGS:
        raise _unsupported(path, f"pooling by {' and '.join(named)} (mean, cls and lasttoken are)")
    return _POOLINGS[named[0]]


def _token_pair(path: Path) -> TokenPair:
    raw = read_json(path)
    yes, no = raw.get("true_token_id"), raw.get("false_token_id")
    if type(yes) is not int or yes < 0 or not (no is None or (type(no) is int and no >= 0)):
        raise ModelError("model_files", f"{path}: expected token ids in true_token_id and false_token_id")
    return TokenPair(yes, no)


def _prompts(path: Path) -> tuple[dict[str, str], str | None]:
    """The prompts by name, and the name of the default one."""
    raw = read_json(path)
    listed, default = raw.get("prompts") or {}, raw.get("default_prompt_name")
    if not isinstance(listed, dict) or not all(isinstance(text, str) for text in listed.values()):
        raise ModelError("model_files", f"{path}: prompts: expected texts by name")
    if default is not None and default not in listed:
        raise ModelError("model_files", f"{path}: default_prompt_name: {default!r} is not among the prompts")
    return listed, default


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
