"""`quantization_config` of a config.json: which matrices are quantized, and how.

The format is `pack-quantized` of compressed-tensors (github.com/vllm-project/compressed-tensors), restricted to
symmetric, weight-only schemes. Other engines read the files written here.
"""

import json
import re
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import ModelError
from engine.quantization.scheme import INT8, Scheme

FORMAT = "pack-quantized"
_KEY = "quantization_config"
_ROUTERS = (r"re:.*\.mlp\.gate$", r"re:.*\.block_sparse_moe\.gate$")
"""Routers are small, and their quantization errors would select other experts."""
_LINEAR = "Linear"


class Rule(msgspec.Struct, frozen=True):
    """One scheme and the matrices it applies to: names, patterns with the prefix `re:`, or "Linear" for all."""

    targets: tuple[str, ...]
    scheme: Scheme


class Quantization(msgspec.Struct, frozen=True):
    """How a model's matrices are quantized. Embedding and norms never are."""

    rules: tuple[Rule, ...]
    ignore: tuple[str, ...]
    stored: bool
    """The model's files hold integers; otherwise weights are quantized on load."""

    def scheme(self, name: str) -> Scheme | None:
        """The scheme of a matrix, by its name without `.weight`; None: not quantized. Names override "Linear"."""
        if _matches(name, self.ignore):
            return None
        for rule in self.rules:
            if _matches(name, rule.targets):
                return rule.scheme
        return next((rule.scheme for rule in self.rules if _LINEAR in rule.targets), None)

    def __str__(self) -> str:
        return " and ".join(dict.fromkeys(str(rule.scheme) for rule in self.rules))


def _matches(name: str, targets: tuple[str, ...]) -> bool:
    return any(
        re.match(target.removeprefix("re:"), name) if target.startswith("re:") else target == name for target in targets
    )


def quantization(scheme: Scheme) -> Quantization:
    """The configuration for quantizing here: `scheme` for layers, int8 for the more sensitive head, no routers."""
    rules: tuple[Rule, ...] = (Rule((_LINEAR,), scheme),)
    if scheme != INT8:
        rules = (Rule(("lm_head",), INT8), *rules)
    return Quantization(rules, _ROUTERS, stored=False)


def to_config(quantized: Quantization) -> dict[str, Any]:
    """The value of `quantization_config`."""
    return {
        "quant_method": "compressed-tensors",
        "format": FORMAT,
        "quantization_status": "compressed",
        "config_groups": {f"group_{index}": _group(rule) for index, rule in enumerate(quantized.rules)},
        "ignore": list(quantized.ignore),
        "kv_cache_scheme": None,
    }


def _group(rule: Rule) -> dict[str, Any]:
    scheme = rule.scheme
    weights = {
        "num_bits": scheme.bits,
        "type": "int",
        "symmetric": True,
        "strategy": "channel" if scheme.group is None else "group",
        "group_size": scheme.group,
        "dynamic": False,
        "actorder": None,
    }
    return {"targets": list(rule.targets), "weights": weights, "input_activations": None, "output_activations": None}


def read_quantization(directory: Path) -> Quantization | None:
    """The quantization of `directory/config.json`; None: not quantized. Raises ModelError for other formats."""
    path = directory / "config.json"
    raw = json.loads(path.read_bytes()).get(_KEY)
    if raw is None:
        return None
    if not isinstance(raw, dict):
        raise ModelError("model_config", f"{path}: {_KEY} must be an object")
    method, form = raw.get("quant_method"), raw.get("format")
    if method != "compressed-tensors" or form != FORMAT:
        what = f"quant_method {method!r}" + ("" if form is None else f", format {form!r}")
        raise ModelError(
            "model_unsupported",
            f"{path}: weights quantized with {what} are not read, only compressed-tensors' {FORMAT}; take the model's "
            "original weights and quantize those on load or with `penstock engine quantize`",
        )
    if raw.get("kv_cache_scheme") is not None:
        raise ModelError("model_unsupported", f"{path}: a kv_cache_scheme is not supported")
    groups = raw.get("config_groups")
    if not isinstance(groups, dict) or not groups:
        raise ModelError("model_config", f"{path}: {_KEY} has no config_groups")
    rules = tuple(_rule(path, name, group) for name, group in groups.items())
    return Quantization(rules, _words(path, "ignore", raw.get("ignore") or []), stored=True)


def _rule(path: Path, name: str, group: Any) -> Rule:
    weights = group.get("weights") if isinstance(group, dict) else None
    if not isinstance(weights, dict):
        raise ModelError("model_config", f"{path}: config group {name} says nothing of weights")
    for key in ("input_activations", "output_activations"):
        if group.get(key) is not None:
            raise ModelError("model_unsupported", f"{path}: config group {name} quantizes {key}; only weights may be")
    wanted = {"type": ("int",), "symmetric": (True,), "num_bits": (4, 8), "strategy": ("group", "channel")}
    # actorder "group" stores permuted inputs, which is not supported; "weight" only affected how scales were computed.
    wanted |= {"actorder": (None, False, "weight", "static"), "dynamic": (None, False)}
    for key, values in wanted.items():
        if weights.get(key) not in values:
            expected = " or ".join(json.dumps(value) for value in values if value is not None)
            raise ModelError(
                "model_unsupported",
                f"{path}: config group {name} has {key} {json.dumps(weights.get(key))}; what is read is {expected}",
            )
    size = weights.get("group_size") if weights["strategy"] == "group" else None
    if weights["strategy"] == "group" and (not isinstance(size, int) or size < 2):
        raise ModelError("model_config", f"{path}: config group {name} has no group_size")
    return Rule(_words(path, "targets", group.get("targets")), Scheme(weights["num_bits"], size))


def _words(path: Path, key: str, words: Any) -> tuple[str, ...]:
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ModelError("model_config", f"{path}: {_KEY}: {key} must be a list of names")
    for word in words:
        try:
            re.compile(word.removeprefix("re:"))
        except re.error as error:
            raise ModelError("model_config", f"{path}: {_KEY}: {key}: {word!r} is no pattern: {error}") from None
    return tuple(words)
