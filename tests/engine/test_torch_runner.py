import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from config.model.settings import EngineSettings, KVSettings
from config.model.table import Bytes
from engine.errors import EngineError, ModelError
from engine.forward.decoder import Decoder
from engine.kernels import compiled as compiled_kernels
from engine.kernels.simd import has_bfloat16_products
from engine.scheduling.batch import Batch
from engine.tensor_parallel.runner import load_runner
from engine.torch_runner import TorchRunner
from tests.engine.conformance import RunnerConformance
from tests.parity import driver, models


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.write_model("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture
def broken(llama: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((llama / name).read_bytes())
    return tmp_path


def runner_of(directory: Path, **changes) -> TorchRunner:
    return load_runner(EngineSettings(**{"model": directory, "kv": KVSettings(memory=Bytes(2**21)), **changes}))


class TestTorchRunner(RunnerConformance):
    @pytest.fixture(autouse=True)
    def _directory(self, llama: Path) -> None:
        self.directory = llama

    def make_runner(self, *, total_blocks: int):
        block_bytes = 2 * 3 * 2 * 16 * 16 * 4
        runner = runner_of(self.directory, kv=KVSettings(memory=Bytes(total_blocks * block_bytes)))
        assert runner.total_blocks == total_blocks
        return runner


def test_progress_is_told(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are reported one by one while they are compiled, and only then."""
    layers = [f"loading layer {layer} of 3" for layer in (1, 2, 3)]
    heard: list[str] = []
    with monkeypatch.context() as nothing:
        nothing.setattr(compiled_kernels, "is_on_disk", lambda _: False)
        load_runner(EngineSettings(model=llama), heard.append)
    compiled = heard[: -len(layers) - 1]
    assert len(compiled) > 3
    for number, line in enumerate(compiled, 1):
        assert line.startswith(f"compiling kernel {number} of {len(compiled)}: ")
    assert heard[len(compiled) :] == [*layers, "warming up"]
    heard.clear()
    load_runner(EngineSettings(model=llama), heard.append)
    assert heard == [*layers, "warming up"]


def test_a_prefill_and_a_decode_warm_it_up(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They use different kernels on a GPU, and no request shall wait for a compiler."""
    sizes = []
    forward = Decoder.forward

    def spy(self: Decoder, batch: Batch, ids: torch.Tensor) -> torch.Tensor:
        sizes.append(len(ids))
        return forward(self, batch, ids)

    monkeypatch.setattr(Decoder, "forward", spy)
    runner_of(llama, kv=KVSettings(memory=Bytes(2**20), block_size=1))
    assert sorted(sizes) == [1, 2]


def test_a_missing_tensor_is_named(broken: Path) -> None:
    tensors = load_file(broken / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, broken / "model.safetensors")
    with pytest.raises(ModelError, match=r"model\.layers\.1\.mlp\.up_proj\.weight is missing"):
        runner_of(broken)


def test_a_misshapen_tensor_is_named(broken: Path) -> None:
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "intermediate_size": 96}))
    with pytest.raises(ModelError, match=r"model\.layers\.0\.mlp\.gate_proj\.weight has shape \[112, 64\]"):
        runner_of(broken)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"kv": KVSettings(memory=Bytes(1000))}, "kv_memory"),
        ({"max_model_len": 1000}, "max_model_len"),
        ({"device": "warp:9"}, "device"),
        ({"model": Path("nowhere")}, "model_not_found"),
    ],
)
def test_settings_that_cannot_be_met(llama: Path, changes: dict, code: str) -> None:
    with pytest.raises(ModelError) as caught:
        runner_of(llama, **changes)
    assert caught.value.code == code


def test_limits_come_from_the_settings(llama: Path) -> None:
    assert runner_of(llama).max_model_len == 512
    assert runner_of(llama, max_model_len=100).max_model_len == 100
    assert runner_of(llama).vocab_size == 211


def test_half_precision_files_are_computed_in_bfloat16_where_that_is_native(tmp_path: Path) -> None:
    native = has_bfloat16_products()
    for kind in (torch.float16, torch.bfloat16):
        directory = models.write_model("llama", tmp_path / str(kind), dtype=kind)
        assert runner_of(directory).dtype == ("bfloat16" if native else "float32")
        assert runner_of(directory, dtype="float32").dtype == "float32"
    assert runner_of(models.write_model("llama", tmp_path / "full")).dtype == "float32"


def test_a_model_that_computes_nan_says_so(broken: Path) -> None:
    tensors = load_file(broken / "model.safetensors")
    tensors["model.norm.weight"][:] = 3e38
    save_file(tensors, broken / "model.safetensors")
    with pytest.raises(EngineError) as caught:
        driver.step(runner_of(broken), [(driver.Sequence([1, 2, 3], [1]), 3)])
    assert caught.value.code == "bad_logits"


def test_a_batch_larger_than_the_buffers_is_served(llama: Path) -> None:
    prompt = list(range(100))
    sequences = [driver.Sequence(prompt, list(range(1 + 8 * index, 9 + 8 * index))) for index in range(2)]
    driver.run(runner_of(llama, max_step_tokens=16), sequences[:1], 8, 10)
    driver.run(runner_of(llama, max_step_tokens=16), sequences[1:], 8, 100)
    assert sequences[0].output == sequences[1].output


def test_closing_twice_is_fine_and_ends_the_runner(llama: Path) -> None:
    runner = runner_of(llama)
    runner.close()
    runner.close()
    with pytest.raises(EngineError, match="closed"):
        driver.step(runner, [(driver.Sequence([1], [1]), 1)])


@pytest.mark.skipif(not has_bfloat16_products(), reason="this processor does not compute in bfloat16")
def test_the_librarys_products_serve_where_ours_do_not(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = driver.Sequence([4, 5, 6], [1]), driver.Sequence([4, 5, 6], [1])
    first = driver.step(runner_of(llama, dtype="bfloat16"), [(ours, 3)])
    monkeypatch.setattr("engine.weights.linear.has_bfloat16_products", lambda: False)
    runner = runner_of(llama, dtype="bfloat16")
    second = driver.step(runner, [(theirs, 3)])
    assert second.margins == pytest.approx(first.margins, abs=0.2)
    theirs.tokens = ours.tokens[:]
    driver.step(runner, [(theirs, 1)])  # one row alone, computed as two
    assert len(theirs.output) == 2
