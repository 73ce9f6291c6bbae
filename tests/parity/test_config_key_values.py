"""Each key of a config.json, with values beside the usual one: as transformers computes it, or refused by name.

A row changes keys of a file whose weights stay. `...` takes a key out: the default of transformers' class holds.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from config.model.settings import EngineSettings, KVSettings
from config.model.table import Bytes
from engine.errors import ModelError
from engine.sampling.params import SamplingParams
from engine.scheduling.batch import Batch, SampleRow
from engine.torch_runner import TorchRunner
from tests.parity import models

TOKENS = [number * 37 % 211 for number in range(72)]
GREEDY = SamplingParams(max_tokens=1, temperature=0)
YARN = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 64}
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7],
    "long_factor": [2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5],
}
ORIGINAL = {"original_max_position_embeddings": 512}
LLAMA3 = models.LLAMA3_ROPE
SLIDE, FULL = "sliding_attention", "full_attention"
SMALL = {"rope_theta": 500.0}
"""So that angles of short sequences tell thetas apart."""

USED: list[tuple[str, dict[str, Any]]] = [
    *[
        (case, changes)
        for case in ("llama", "mistral-window", "qwen2", "qwen3", "phi3", "mixtral", "qwen3-moe", "gemma2")
        for changes in (
            {"rms_norm_eps": 0.1},
            {"rope_parameters": {"rope_type": "default", **SMALL}},
            {"rope_parameters": ..., "rope_theta": 500.0},
        )
    ],
    *[
        (case, changes)
        for case in ("llama", "mistral-window", "qwen2", "qwen3", "mixtral", "qwen3-moe", "gemma2")
        for changes in (
            {"rope_parameters": ..., "rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 3.0}},
            {"rope_parameters": {"rope_type": "linear", "factor": 3.0}},
        )
    ],
    *[
        (case, {"rope_parameters": {**YARN, **changes}})
        for case in ("llama", "qwen3", "qwen3-moe", "mistral-window")
        for changes in (
            {},
            {"truncate": False},
            {"mscale": 1.0, "mscale_all_dim": 0.5},
            {"mscale": 0.7},
            {"mscale_all_dim": 0.7},
            {"attention_factor": 1.3},
            {"attention_factor": 1.3, "mscale": 1.0, "mscale_all_dim": 0.5},
            {"beta_fast": 8.0, "beta_slow": 2.0},
            {"beta_fast": 2.0, "beta_slow": 2.0},
            {"factor": None},
        )
    ],
    ("llama", {"rope_parameters": ..., "rope_scaling": {**YARN, "finetuned": True}}),
    ("llama", {"rope_parameters": {key: value for key, value in YARN.items() if key[0] != "o"}}),
    ("llama", {"rope_parameters": LLAMA3}),
    ("llama", {"rope_parameters": {**LLAMA3, "low_freq_factor": 2.0, "high_freq_factor": 8.0}}),
    ("llama", {"rope_parameters": {key: value for key, value in LLAMA3.items() if key[0] != "o"}}),
    ("llama", {"rope_parameters": {**LONGROPE, "original_max_position_embeddings": 512, "factor": 8.0}}),
    ("llama", {"rope_parameters": {**LONGROPE, "original_max_position_embeddings": 512}}),
    ("llama", {"hidden_act": "gelu_new"}),
    ("llama", {"hidden_act": "swish"}),
    ("mistral-window", {"sliding_window": 7}),
    ("mistral-window", {"sliding_window": None}),
    ("mistral-window", {"sliding_window": ...}),
    ("mixtral", {"sliding_window": 7}),
    ("mixtral", {"rope_parameters": ...}),
    ("mixtral", {"num_experts_per_tok": 3}),
    ("mixtral", {"num_experts_per_tok": ...}),
    ("phi3", {"sliding_window": ...}),
    ("phi3", {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}),
    ("phi3", {"rope_parameters": ..., "partial_rotary_factor": 0.5}),
    ("phi3", {"rope_parameters": {**LONGROPE, "rope_type": "su", **ORIGINAL}, "original_max_position_embeddings": 512}),
    ("phi3", {"rope_parameters": {**LONGROPE, "rope_type": "yarn"}, "original_max_position_embeddings": 512}),
    ("phi3", {"rope_parameters": {**LONGROPE, "factor": 4.0}, "original_max_position_embeddings": 512}),
    ("qwen2-window", {"max_window_layers": 2}),
    ("qwen2-window", {"max_window_layers": 0}),
    ("qwen2-window", {"layer_types": ..., "max_window_layers": ...}),
    ("qwen2-window", {"layer_types": ..., "sliding_window": ...}),
    ("qwen2-window", {"layer_types": [SLIDE, FULL, SLIDE]}),
    ("qwen2-window", {"layer_types": [FULL] * 3, "use_sliding_window": False}),
    ("qwen3", {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1, "layer_types": ...}),
    ("qwen3-moe", {"use_sliding_window": True, "sliding_window": 9}),
    ("qwen3-moe", {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 3}),
    ("qwen3-moe", {"norm_topk_prob": False}),
    ("qwen3-moe", {"norm_topk_prob": ...}),
    ("qwen3-moe", {"num_experts_per_tok": 2}),
    ("gemma2", {"attn_logit_softcapping": ...}),
    ("gemma2", {"attn_logit_softcapping": None}),
    ("gemma2", {"attn_logit_softcapping": 1.5}),
    ("gemma2", {"final_logit_softcapping": ...}),
    ("gemma2", {"final_logit_softcapping": None}),
    ("gemma2", {"final_logit_softcapping": 2.0}),
    ("gemma2", {"query_pre_attn_scalar": 100}),
    ("gemma2", {"query_pre_attn_scalar": ...}),
    ("gemma2", {"hidden_activation": "silu"}),
    ("gemma2", {"hidden_act": "silu"}),
    ("gemma2", {"sliding_window": 5}),
    ("gemma2", {"layer_types": [FULL, SLIDE, SLIDE]}),
    ("gemma2", {"layer_types": ...}),
    ("gemma2", {"tie_word_embeddings": ...}),
    ("gemma3", {"final_logit_softcapping": 2.0}),
    ("gemma3", {"query_pre_attn_scalar": ...}),
    ("gemma3", {"rms_norm_eps": 0.1}),
    ("gemma3", {"layer_types": ..., "sliding_window_pattern": 2, "sliding_window": 5}),
    ("gemma3", {"layer_types": ..., "sliding_window": 5}),
    ("gemma3", {"rope_parameters": ...}),
    ("gemma3", {"rope_parameters": ..., "rope_theta": 500.0, "rope_local_base_freq": 90.0}),
    ("gemma3", {"rope_parameters": ..., "rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
    ("gemma3", {"rope_parameters": {FULL: {"rope_type": "linear", "factor": 8.0}, SLIDE: SMALL}}),
    ("gemma3", {"rope_parameters": {FULL: {**YARN}}}),
    ("gemma3", {"rope_parameters": {SLIDE: {"rope_type": "linear", "factor": 3.0}}}),
]

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ("llama", {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
    ("llama", {"rope_parameters": {"rope_type": "default", "factor": 4.0}}, "rope_scaling.factor"),
    ("llama", {"rope_parameters": {**YARN, "mrope_section": [4, 2, 2]}}, "rope_scaling.mrope_section"),
    ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2, "attention_factor": 2}}, "attention_factor"),
    ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0}}, "dynamic"),
    ("llama", {"rope_parameters": {"rope_type": "proportional"}}, "proportional"),
    ("llama", {"rope_parameters": {FULL: {"rope_type": "linear", "factor": 4.0}}}, "rope_scaling.full_attention"),
    ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 9.0}}, "rope_scaling"),
    ("llama", {"rope_parameters": {**YARN, "type": "linear"}}, "rope_scaling"),
    ("llama", {"rope_parameters": YARN, "original_max_position_embeddings": 32}, "original_max_position_embeddings"),
    ("llama", {"rope_parameters": {**LONGROPE, "short_factor": [1.0]}}, "rope_scaling.short_factor"),
    ("llama", {"rope_parameters": {**LLAMA3, "factor": "many"}}, "rope_scaling.factor"),
    ("llama", {"rope_parameters": "default"}, "rope_parameters"),
    ("llama", {"sliding_window": 8}, "sliding_window"),
    ("llama", {"layer_types": [SLIDE, FULL, SLIDE]}, "layer_types"),
    ("llama", {"query_pre_attn_scalar": 100}, "query_pre_attn_scalar"),
    ("llama", {"attn_logit_softcapping": 30.0}, "attn_logit_softcapping"),
    ("llama", {"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
    ("llama", {"logit_scale": 0.5}, "logit_scale"),
    ("llama", {"residual_multiplier": 0.5}, "residual_multiplier"),
    ("llama", {"hidden_act": "relu"}, "hidden_act"),
    ("llama", {"hidden_act": "gelu"}, "hidden_act"),
    ("llama", {"is_encoder_decoder": True}, "is_encoder_decoder"),
    ("llama", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ("llama", {"a_new_idea": 0.5}, "a_new_idea"),
    ("llama", {"text_config": {"hidden_size": 8}}, "text_config"),
    ("mistral-window", {"layer_types": [SLIDE, FULL, SLIDE]}, "layer_types"),
    ("mistral-window", {"attention_bias": True}, "attention_bias"),
    ("mistral-window", {"sliding_window": -1}, "sliding_window"),
    ("mixtral", {"num_experts": 4}, "num_experts"),
    ("mixtral", {"num_experts_per_tok": 9}, "num_experts_per_tok"),
    ("phi3", {"rope_parameters": {**LONGROPE, "long_mscale": 1.2}}, "rope_scaling.long_mscale"),
    ("phi3", {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, "linear"),
    ("phi3", {"rope_parameters": {**LONGROPE, "original_max_position_embeddings": 99}}, "original_max_position_emb"),
    ("qwen2", {"mlp_bias": True}, "mlp_bias"),
    ("qwen2", {"layer_types": [SLIDE, FULL, SLIDE]}, "layer_types"),
    ("qwen2", {"dual_chunk_attention_config": {"chunk_size": 64}}, "dual_chunk_attention_config"),
    ("qwen3-moe", {"shared_expert_intermediate_size": 64}, "shared_expert_intermediate_size"),
    ("qwen3-moe", {"mlp_only_layers": "1"}, "mlp_only_layers"),
    ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ("gemma2", {"sliding_window": None}, "layer_types"),
    ("gemma3", {"attn_logit_softcapping": 20.0}, "attn_logit_softcapping"),
    ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ("gemma3", {"rope_parameters": {"rope_type": "linear", "factor": 4.0}}, "rope_parameters"),
    ("gemma3", {"rope_parameters": {FULL: {**YARN, "truncate": False}}}, "truncate"),
]


def named(rows: list[Any]) -> list[str]:
    return [f"{row[0]}-{json.dumps(row[1], default=lambda _: 'left out')}"[:110] for row in rows]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    cases = {row[0] for row in (*USED, *REFUSED)}
    return {case: models.write_model(case, tmp_path_factory.mktemp(case)) for case in sorted(cases)}


def changed(folder: Path, to: Path, changes: dict[str, Any]) -> Path:
    """The same weights under another config.json."""
    for path in folder.iterdir():
        if path.name != "config.json":
            (to / path.name).symlink_to(path)
    raw = {**json.loads((folder / "config.json").read_text()), **changes}
    (to / "config.json").write_text(json.dumps({key: value for key, value in raw.items() if value is not ...}))
    return to


def settings(directory: Path, **more: Any) -> EngineSettings:
    return EngineSettings(
        **{"model": directory, "dtype": "float32", "kv": KVSettings(memory=Bytes(2**22)), "threads": 1, **more}
    )


def ours(
    directory: Path, tokens: list[int] = TOKENS, heard: Callable[[str], None] = lambda _: None, **more: Any
) -> torch.Tensor:
    """Log-probabilities [tokens, vocab] behind each token."""
    runner = TorchRunner(settings(directory, max_step_tokens=128, **more), heard)
    count = len(tokens)
    blocks = -(-count // runner.block_size)
    positions = np.arange(count)
    samples = [
        SampleRow(row=row, params=GREEDY, seed=0, position=row + 1, prompt_token_ids=(0,), output_token_ids=[])
        for row in range(count)
    ]
    batch = Batch(
        token_ids=np.array(tokens, np.int64),
        positions=positions,
        slots=positions + runner.block_size,
        query_starts=np.array([0, count], np.int32),
        context_lens=np.array([count], np.int32),
        block_tables=np.arange(1, blocks + 1, dtype=np.int32)[None],
        samples=samples,
    )
    return torch.from_numpy(runner.logits(batch)).log_softmax(-1)


def theirs(directory: Path, tokens: list[int] = TOKENS) -> torch.Tensor:
    with torch.inference_mode():
        return models.reference(directory)(torch.tensor([tokens])).logits[0].log_softmax(-1)


@pytest.mark.sample(60)
@pytest.mark.parametrize(("case", "changes"), USED, ids=named(USED))
def test_a_key_means_what_transformers_says(
    case: str, changes: dict[str, Any], folders: dict[str, Path], tmp_path: Path
) -> None:
    directory = changed(folders[case], tmp_path, changes)
    torch.testing.assert_close(ours(directory), theirs(directory), atol=2e-4, rtol=2e-5)


@pytest.mark.parametrize(("case", "changes", "word"), REFUSED, ids=named(REFUSED))
def test_what_nobody_acts_upon_is_refused_by_name(
    case: str, changes: dict[str, Any], word: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as refused:
        TorchRunner(settings(changed(folders[case], tmp_path, changes)), lambda _: None)
    assert word in refused.value.message
    assert "config.json" in refused.value.message


@pytest.mark.parametrize(
    ("longest", "tokens", "told"),
    [(None, 72, "max_model_len = 48"), (49, 49, "max_model_len = 48"), (48, 48, "the short factors hold")],
)
def test_longrope_goes_by_the_longest_sequence_that_an_engine_takes(
    longest: int | None, tokens: int, told: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    """Transformers goes by the prompt; what an engine chose is what it says to a prompt of that length."""
    rope = {"rope_parameters": {**LONGROPE, "attention_factor": 1.2}, "original_max_position_embeddings": 48}
    directory = changed(folders["phi3"], tmp_path, rope)
    heard: list[str] = []
    found = ours(directory, TOKENS[:tokens], heard.append, max_model_len=longest)
    torch.testing.assert_close(found, theirs(directory, TOKENS[:tokens]), atol=2e-4, rtol=2e-5)
    assert any(told in said for said in heard)
    # The pool is smaller than the original length, and decides nothing.
    small = ours(directory, TOKENS[:20], heard.append, max_model_len=longest, kv=KVSettings(memory=Bytes(100_000)))
    torch.testing.assert_close(small, found[:20], atol=2e-4, rtol=2e-5)


def test_a_key_that_the_operator_knows_of_is_passed_over(folders: dict[str, Path], tmp_path: Path) -> None:
    directory = changed(folders["llama"], tmp_path, {"a_new_idea": 0.5, "logit_scale": 3.0})
    with pytest.raises(ModelError, match=r'ignore_config_keys = \["a_new_idea"\]'):
        ours(directory)
    found = ours(directory, ignore_config_keys=("a_new_idea", "logit_scale"))
    torch.testing.assert_close(found, theirs(folders["llama"]), atol=2e-4, rtol=2e-5)
