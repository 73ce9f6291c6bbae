"""Resources of engines that run side by side, for real model directories and a machine of known size."""

from pathlib import Path

import msgspec
import pytest
import torch

from config.model.settings import AdapterSettings, EngineSettings, KVSettings
from config.model.table import Bytes
from engine.errors import ModelError
from engine.memory import resources
from engine.memory.gpu_memory import step_bytes
from engine.memory.resources import resolve, resolve_alone, threads_per_engine
from engine.model.model_config import read_model_config
from engine.tensor_parallel.runner import load_runner
from tests.parity import adapters, models

MiB = 2**20
TOKEN_BYTES = 2 * 3 * 2 * 16 * 4
"""Three layers, two KV heads of sixteen, float32."""


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("llama")
    models.write_model("llama", directory)
    return directory


@pytest.fixture
def machine(monkeypatch):
    """Simulate a machine with the given memory and eight cores."""

    def of(free: int) -> None:
        monkeypatch.setattr(resources, "available_memory", lambda: free)
        monkeypatch.setattr(resources, "available_cores", lambda: 8)

    return of


def test_alone_with_much_memory_a_pool_holds_all_that_can_ever_run(llama, machine):
    machine(1000 * MiB)
    settings = EngineSettings(model=llama, max_model_len=100, max_running=32)
    found = resolve({"one": settings})["one"]
    assert found.settings.kv.memory == (200 + 1) * 16 * TOKEN_BYTES
    assert found.settings.threads == 7
    assert "201 blocks of 16 tokens" in found.message
    assert "all that its sequences could ever fill" in found.message


def test_two_share_half_of_what_is_left_beside_weights_and_stated_pools(llama, machine):
    weights = sum(file.stat().st_size for file in llama.glob("*.safetensors"))
    machine(3 * weights + 10 * MiB + 4 * 2 * MiB)
    stated = EngineSettings(model=llama, kv=KVSettings(memory=Bytes(10 * MiB)), threads=3)
    asking = EngineSettings(model=llama, max_running=10_000)
    found = resolve({"a": asking, "stated": stated, "b": asking})
    assert found["stated"].settings == stated
    assert found["stated"].message.startswith("KV pool: 10MiB, ")
    assert [found[name].settings.kv.memory for name in "ab"] == [2 * MiB, 2 * MiB]
    assert {found[name].settings.threads for name in "ab"} == {2}
    assert "engines that share it: 2" in found["a"].message


def test_adapters_have_their_room(llama, tmp_path, machine):
    weights = sum(file.stat().st_size for file in llama.glob("*.safetensors"))
    kinds = ("all", "patterns", "odd")
    folders = {kind: adapters.write_adapter(kind, llama, tmp_path / kind) for kind in kinds}
    settings = EngineSettings(
        model=llama,
        max_running=10_000,
        adapters={kind: AdapterSettings(path=folder) for kind, folder in folders.items()},
        max_adapters=5,
        max_adapter_rank=8,
    )
    stated = msgspec.structs.replace(settings, kv=KVSettings(memory=Bytes(MiB)), adapters={})
    runner = load_runner(stated)
    taken = {kind: runner.read_adapter(folder).memory_bytes for kind, folder in folders.items()}
    runner.close()
    machine(weights + sum(taken.values()) + 4 * MiB)
    found = resolve({"one": settings})["one"]
    assert found.settings.kv.memory == 2 * MiB
    assert found.message.endswith(f"; {sum(taken.values()) // 1024}KiB for adapters: 3 configured")
    # "all" has rank 8 on every module: two more of that size.
    machine(weights + sum(taken.values()) + 2 * taken["all"] + 4 * MiB)
    found = resolve({"one": settings}, more_adapters=True)["one"]
    assert found.settings.kv.memory == 2 * MiB
    assert found.message.endswith("for adapters: 3 configured, 2 more of rank 8 that may be loaded")
    # An invalid adapter folder is reported when it is loaded.
    missing = msgspec.structs.replace(settings, adapters={"x": AdapterSettings(path=tmp_path / "nothing")})
    machine(weights + 4 * MiB)
    assert resolve({"one": missing})["one"].settings.kv.memory == 2 * MiB


def test_without_room_for_two_blocks_loading_says_so(llama, machine):
    machine(sum(file.stat().st_size for file in llama.glob("*.safetensors")))
    settings = resolve({"one": EngineSettings(model=llama)})["one"].settings
    with pytest.raises(ModelError, match=r'two are the least.* if it is "auto", give the process more') as caught:
        load_runner(settings)
    assert caught.value.code == "kv_memory"


def test_a_directory_that_cannot_be_read_is_left_to_its_loading(tmp_path, machine):
    machine(1000 * MiB)
    settings = EngineSettings(model=tmp_path / "nothing", threads=1)
    assert resolve({"one": settings})["one"].settings == settings


def test_who_has_the_machine_alone_asks_only_if_something_is_open(llama, machine, monkeypatch):
    machine(1000 * MiB)
    assert resolve_alone(EngineSettings(model=llama)).kv.memory > 0
    monkeypatch.setattr(resources, "available_memory", lambda: pytest.fail("asked"))
    stated = EngineSettings(model=llama, threads=1, kv=KVSettings(memory=Bytes(5)))
    assert resolve_alone(stated) is stated


def test_a_devices_own_memory_goes_to_its_engines_nearly_whole(llama, monkeypatch):
    settings = EngineSettings(model=llama, device="cuda", max_running=256)
    beside = msgspec.structs.replace(settings, device="cuda:0")
    weights = sum(file.stat().st_size for file in llama.glob("*.safetensors"))
    steps = step_bytes(settings, read_model_config(llama), torch.bfloat16)
    asked = []

    def free(device):
        asked.append(device)
        return 2 * (weights + steps) + 20 * MiB, 80 * 2**30

    monkeypatch.setattr(torch.accelerator, "get_memory_info", free)
    found = resolve({"one": settings, "two": beside})
    assert asked == ["cuda:0"]
    assert [found[name].settings.kv.memory for name in ("one", "two")] == pytest.approx([9 * MiB, 9 * MiB], abs=1)


@pytest.mark.parametrize(
    ("engines", "cores", "threads"), [(1, 1, 1), (1, 2, 1), (2, 2, 1), (1, 16, 15), (2, 16, 7), (20, 16, 1), (0, 4, 3)]
)
def test_threads_leave_a_core_to_the_loop(engines, cores, threads):
    assert threads_per_engine(engines, cores) == threads
