"""A quantized engine says what transformers says with the weights that its integers stand for."""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from config.model.settings import EngineSettings, KVSettings
from config.model.table import Bytes
from engine.errors import ModelError
from engine.kernels.simd import has_bfloat16_products
from engine.quantization.convert import quantize_model
from engine.quantization.scheme import Scheme, scheme_of
from engine.sampling.params import SamplingParams
from engine.tensor_parallel.runner import load_runner
from engine.torch_runner import TorchRunner
from tests.parity import driver, models, quantized
from tests.parity.test_numbers import VOCAB, teacher_forced

BF16 = pytest.mark.skipif(not has_bfloat16_products(), reason="this processor does not compute in bfloat16")
KINDS = [("int8", None), ("int4", 16)]


def load(directory: Path, dtype: str, kind: str | None = None, group: int | None = None) -> TorchRunner:
    settings = EngineSettings(
        model=directory, dtype=dtype, quantization=kind, quantization_group=group, kv=KVSettings(memory=Bytes(2**22))
    )
    return load_runner(settings)


def silent(_line: str) -> None: ...


def tokens_of(case: str, count: int) -> list[int]:
    rng = random.Random(case)
    return [rng.randrange(VOCAB) for _ in range(count)]


@pytest.mark.sample(14)
@pytest.mark.parametrize(("kind", "group"), KINDS)
@pytest.mark.parametrize("case", models.CASES)
def test_float32(case: str, kind: str, group: int | None, tmp_path: Path) -> None:
    directory = models.write_model(case, tmp_path / "model")
    quantize_model(directory, tmp_path / "saved", scheme_of(kind, group), silent)
    reference = models.reference(quantized.expanded(tmp_path / "saved", tmp_path / "plain"))
    tokens = tokens_of(case, 50)
    with torch.inference_mode():
        truth = reference(torch.tensor([tokens])).logits[0, 19:].log_softmax(-1)
    on_load = teacher_forced(load(directory, "float32", kind, group), tokens)
    torch.testing.assert_close(on_load, truth, atol=2e-4, rtol=2e-5)
    assert torch.equal(teacher_forced(load(tmp_path / "saved", "float32"), tokens), on_load)


@BF16
@pytest.mark.sample(14)
@pytest.mark.parametrize(("kind", "group"), KINDS)
@pytest.mark.parametrize("case", models.CASES)
def test_bfloat16(case: str, kind: str, group: int | None, tmp_path: Path) -> None:
    """Truth: the quantized weights, computed in float32. Tolerance: 1.25 times transformers' own error in bfloat16."""
    directory = models.write_model(case, tmp_path / "model", dtype=torch.bfloat16)
    quantize_model(directory, tmp_path / "saved", scheme_of(kind, group), silent)
    plain = quantized.expanded(tmp_path / "saved", tmp_path / "plain")
    tokens = tokens_of(case, 80)
    with torch.inference_mode():
        truth, theirs = (
            models.reference(plain, dtype)(torch.tensor([tokens])).logits[0, 19:].float().log_softmax(-1)
            for dtype in (torch.float32, torch.bfloat16)
        )
    on_load = teacher_forced(load(directory, "bfloat16", kind, group), tokens)
    assert (on_load - truth).abs().mean() <= 1.25 * (theirs - truth).abs().mean()
    assert (on_load - truth).abs().max() <= 2 * (theirs - truth).abs().max()
    assert torch.equal(teacher_forced(load(tmp_path / "saved", "bfloat16"), tokens), on_load)


@BF16
@pytest.mark.parametrize(("kind", "group"), KINDS)
@pytest.mark.parametrize("case", ["llama-tied-llama3", "mistral-window", "qwen3-moe"])
def test_a_sequence_is_the_same_to_the_last_bit_in_any_company(
    case: str, kind: str, group: int | None, tmp_path: Path
) -> None:
    runner = load(models.write_model(case, tmp_path, dtype=torch.bfloat16), "bfloat16", kind, group)
    rng = random.Random(7)
    prompts = [[rng.randrange(VOCAB) for _ in range(length)] for length in (1, 30, 77, 16, 5)]
    params = SamplingParams(max_tokens=1, temperature=0.8, top_p=0.95)
    alone = []
    for index, prompt in enumerate(prompts):
        sequence = driver.Sequence(prompt, list(range(1, 8)), params, seed=index)
        driver.run(runner, [sequence], 16, 1000)
        alone.append((sequence.output, sequence.margins))
    for chunk in (1, 9, 1000):
        together = [
            driver.Sequence(prompt, list(range(1 + 7 * index, 8 + 7 * index)), params, seed=index)
            for index, prompt in enumerate(prompts)
        ]
        driver.run(runner, together, 16, chunk)
        assert [(sequence.output, sequence.margins) for sequence in together] == alone


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    models.write_model("llama-tied-llama3", folder / "model")
    quantize_model(folder / "model", folder / "saved", Scheme(4, 16), silent)
    return folder


@pytest.fixture
def broken(saved: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(saved / "saved", tmp_path / "broken"))


def test_what_is_saved(saved: Path) -> None:
    heard: list[str] = []
    again = saved / "again"
    summary = quantize_model(saved / "model", again, Scheme(4, 16), heard.append)
    assert heard[0] == "quantizing model.layers.0.mlp.down_proj (3 of 30 tensors)"
    assert len(heard) == summary.matrices == 3 * 7 + 1
    assert summary.bytes_after < 0.5 * summary.bytes_before
    tensors = load_file(again / "model.safetensors")
    assert sum(tensor.nbytes for tensor in tensors.values()) == summary.bytes_after
    assert tensors["model.layers.0.mlp.down_proj.weight_packed"].shape == (64, 112 * 4 // 32)
    assert tensors["model.layers.0.mlp.down_proj.weight_scale"].shape == (64, 112 // 16)
    assert tensors["model.embed_tokens.weight"].dtype == torch.float32
    assert "lm_head.weight_packed" in tensors
    assert (again / "tokenizer.json").read_bytes() == (saved / "model" / "tokenizer.json").read_bytes()
    config = json.loads((again / "config.json").read_text())
    assert config["tie_word_embeddings"] is False
    assert config["quantization_config"]["quant_method"] == "compressed-tensors"
    assert load(again, "auto").quantization == "int8 and int4 in groups of 16"


def test_files_of_a_bounded_size(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.quantization.convert._SHARD_BYTES", 20_000)
    quantize_model(saved / "model", tmp_path / "shards", Scheme(4, 16), silent)
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 3
    tokens = tokens_of("shards", 30)
    one, other = (teacher_forced(load(place, "float32"), tokens) for place in (tmp_path / "shards", saved / "saved"))
    assert torch.equal(one, other)


def test_settings_that_say_the_same_as_the_files(saved: Path) -> None:
    load(saved / "saved", "auto", "int4", 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantization": "int8"}, "is quantized already, as int8 and int4 in groups of 16, which cannot become int8"),
        ({"device": "meta"}, 'on the CPU only; device is "meta"'),
    ],
)
def test_settings_that_cannot_be_met(saved: Path, changes: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load_runner(EngineSettings(model=saved / "saved", **changes))
    assert caught.value.code == "quantization"


def test_a_group_that_does_not_fit_names_the_matrix(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"0\.mlp\.down_proj cannot be int4 in groups of 64: 112 inputs"):
        load(saved / "model", "auto", "int4")
    with pytest.raises(ModelError, match="112 inputs are no multiple of 64"):
        quantize_model(saved / "model", tmp_path / "out", Scheme(4, 64), silent)


def test_nothing_is_quantized_twice_or_written_over(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is quantized already"):
        quantize_model(saved / "saved", tmp_path / "out", Scheme(8), silent)
    with pytest.raises(ModelError, match="not an empty folder"):
        quantize_model(saved / "model", saved / "saved", Scheme(8), silent)
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be written"):
        quantize_model(saved / "model", tmp_path / "file" / "out", Scheme(8), silent)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("weight_packed", None, r"mlp\.up_proj\.weight_packed is missing"),
        ("weight_packed", lambda tensor: tensor[:, 1:].contiguous(), r"weight_packed is torch\.int32 \[112, 7\]"),
        ("weight_packed", lambda tensor: tensor.float(), r"weight_packed is torch\.float32"),
        ("weight_scale", lambda tensor: tensor[:, :2].contiguous(), r"weight_scale has shape \[112, 2\]"),
        ("weight_shape", lambda tensor: tensor + 1, r"weight_shape says \[113, 65\], not \[112, 64\]"),
        ("weight_zero_point", lambda _: torch.zeros(1), "weight_zero_point: asymmetric or reordered"),
        ("weight_g_idx", lambda _: torch.zeros(1), "weight_g_idx: asymmetric or reordered"),
    ],
)
def test_damaged_tensors_are_named(broken: Path, name: str, change, message: str) -> None:
    tensors = load_file(broken / "model.safetensors")
    place = f"model.layers.1.mlp.up_proj.{name}"
    if change is None:
        del tensors[place]
    else:
        tensors[place] = change(tensors.get(place))
    save_file(tensors, broken / "model.safetensors")
    with pytest.raises(ModelError, match=message):
        load(broken, "float32")


def test_what_is_computed_as_one_must_be_quantized_alike(broken: Path) -> None:
    config = json.loads((broken / "config.json").read_text())
    config["quantization_config"]["ignore"].append("re:.*v_proj")
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"k_proj, model\.layers\.0\.self_attn\.v_proj are computed as one product"):
        load(broken, "float32")
