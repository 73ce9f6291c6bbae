from pathlib import Path

import pytest
import torch

from config.model.settings import EngineSettings, GpuSettings, KVSettings
from config.model.table import Bytes
from engine.errors import ModelError
from engine.forward import choice as kernel_choice
from engine.forward.choice import choose_kernels
from engine.memory.gpu_memory import check_memory, step_bytes
from tests.engine.kernel_cases import shape

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")
FITTING = shape(2, 2, 16, 0)


def chosen(kernels: str, device: torch.device, block_size: int = 16, *, invariant: bool = False) -> str:
    settings = EngineSettings(
        model=Path("none"),
        gpu=GpuSettings(kernels=kernels),
        kv=KVSettings(block_size=block_size),
        batch_invariant=invariant,
    )
    return choose_kernels(settings, FITTING, device, torch.float32)


@pytest.fixture(params=[True, False], ids=["with Triton", "without"])
def installed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(kernel_choice, "find_spec", lambda _: request.param or None)
    monkeypatch.setattr(kernel_choice, "_interpreted", lambda: False)
    return request.param


def test_each_device_has_its_own(installed: bool) -> None:
    assert chosen("auto", CPU) == "compiled"
    assert chosen("auto", CPU, block_size=8) == "portable"
    assert chosen("auto", CUDA) == ("triton" if installed else "portable")
    assert chosen("portable", CPU) == chosen("portable", CUDA) == "portable"


def test_batch_invariance_wants_kernels_that_have_it(installed: bool) -> None:
    assert chosen("auto", CPU, invariant=True) == "compiled"
    assert chosen("auto", CUDA, invariant=True) == "portable"
    with pytest.raises(ModelError, match="exclude each other"):
        chosen("triton", CUDA, invariant=True)


def test_tritons_are_refused_where_they_cannot_run(installed: bool) -> None:
    with pytest.raises(ModelError, match="needs a GPU" if installed else "needs Triton: pip install"):
        chosen("triton", CPU)
    if installed:
        assert chosen("triton", CUDA) == "triton"


def needs(**changes) -> int:
    return step_bytes(EngineSettings(model=Path("none"), **changes), FITTING, torch.bfloat16)


def test_larger_steps_and_graphs_need_more_room() -> None:
    assert needs() < needs(max_step_tokens=8192)
    assert needs(gpu=GpuSettings(graphs=False)) < needs() < needs(max_running=64)


def test_a_pool_that_leaves_no_room_for_a_step_is_refused_with_what_would_fit() -> None:
    settings = EngineSettings(model=Path("none"), device="cuda:0", kv=KVSettings(memory=Bytes(2**30)))
    enough = 2**30 + step_bytes(settings, FITTING, torch.bfloat16)
    check_memory(settings, FITTING, torch.bfloat16, free_bytes=enough)
    with pytest.raises(ModelError, match=r"set kv\.memory to at most 1023MiB") as caught:
        check_memory(settings, FITTING, torch.bfloat16, free_bytes=enough - 1)
    assert caught.value.code == "device_memory"
