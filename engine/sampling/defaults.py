"""A model's default sampling parameters from generation_config.json, applied as in vLLM."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import ModelError
from engine.sampling.params import SamplingParams
from engine.text.tokenizer import read_json

_FILE = "generation_config.json"
_ALLOWED: Mapping[str, tuple[Callable[[float], bool], str]] = {
    "temperature": (lambda value: value >= 0, "0 or more"),
    "top_p": (lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "top_k": (lambda value: value >= -1 and value == int(value), "a whole number, 0 for none"),
    "min_p": (lambda value: 0 <= value <= 1, "0 to 1"),
    "repetition_penalty": (lambda value: value > 0, "above 0"),
    "max_new_tokens": (lambda value: value >= 1 and value == int(value), "a whole number of at least 1"),
}
_UNSUPPORTED: Mapping[str, object] = {
    "typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0, "no_repeat_ngram_size": 0, "num_beams": 1,
    "penalty_alpha": 0, "bad_words_ids": (), "suppress_tokens": (), "begin_suppress_tokens": (), "min_new_tokens": 0,
    "exponential_decay_length_penalty": (), "sequence_bias": (), "guidance_scale": 1, "forced_bos_token_id": (),
}  # fmt: skip
"""Unsupported keys that would change answers, with the value that has no effect (null has none either)."""


class SamplingDefaults(msgspec.Struct, frozen=True):
    """Defaults of one model; None: the API's default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    max_new_tokens: int | None = None
    """Output limit if neither the request nor its route sets one."""
    unsupported: tuple[str, ...] = ()
    """Unsupported keys that the file sets."""

    def fill(self, params: SamplingParams) -> SamplingParams:
        """Replace the parameters that the client left out by these values."""
        candidates = {name: getattr(self, name) for name in params.left_out}
        known = {name: value for name, value in candidates.items() if value is not None}
        return msgspec.structs.replace(params, **known) if known else params

    def __str__(self) -> str:
        values = {name: getattr(self, name) for name in _ALLOWED}
        stated = ", ".join(f"{name} {value:g}" for name, value in values.items() if value is not None)
        ignored = f"; not obeyed: {', '.join(self.unsupported)}" if self.unsupported else ""
        return f"{_FILE}: where a request does not say, {stated or 'the defaults of the API'}{ignored}"


API_DEFAULTS = SamplingDefaults()


def read_defaults(directory: Path) -> SamplingDefaults:
    """Read `directory/generation_config.json`; without it the API's defaults apply.

    Raises ModelError: the file cannot be read, or a value is out of range.
    """
    path = directory / _FILE
    raw = read_json(path)
    values: dict[str, Any] = {}
    for name, (allowed, words) in _ALLOWED.items():
        value = raw.get(name)
        if value is None:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not allowed(value):
            raise ModelError(
                "generation_config",
                f"{path}: {name} is {value!r}, expected {words}; mend it, or give the engine generation_config = false",
            )
        values[name] = max(int(value), 0) if name in {"top_k", "max_new_tokens"} else float(value)
    sampled = raw.get("do_sample")
    if sampled is False:
        values["temperature"] = 0.0
    elif sampled not in {None, True}:
        raise ModelError("generation_config", f"{path}: do_sample is {sampled!r}, expected true or false")
    left = tuple(name for name, neutral in _UNSUPPORTED.items() if raw.get(name) and raw[name] != neutral)
    return SamplingDefaults(**values, unsupported=left)
