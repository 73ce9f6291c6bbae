"""With the same seed a request gives the same bytes alone, in any company, after a preemption and from a warm cache."""

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from config.model.settings import EngineSettings, KVSettings
from config.model.table import Bytes
from engine import torch_runner
from engine.core.engine import Engine
from engine.errors import ModelError
from engine.forward.cpu import CpuKernels
from engine.kernels.simd import has_bfloat16_products
from engine.kernels.tiles import check_places, in_tiles
from engine.lora.adapters import Adapter
from engine.messages import AddAdapter, Submit, TokenDelta
from engine.model.model_config import Activation, read_model_config
from engine.sampling.params import SamplingParams
from engine.scheduling.batch import Runner
from engine.tensor_parallel.runner import load_runner
from engine.text.tokenizer import Tokenizer
from engine.weights.linear import LinearFactory
from engine.weights.mlp import gated
from tests.parity import adapters, models

VOCAB = 211
OUTPUTS = 10
BF16 = pytest.mark.skipif(not has_bfloat16_products(), reason="this processor does not compute in bfloat16")
DTYPES = ["float32", pytest.param("bfloat16", marks=BF16)]


class Plain(LinearFactory):
    """The library's products, as other devices have them."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.own = False


def requests(count: int, names: Sequence[str], outputs: int) -> list[Submit]:
    """Of all kinds and with adapters of these names in turn; the last ones are only company."""
    rng = random.Random(count)
    shared = [rng.randrange(VOCAB) for _ in range(40)]
    kinds = [
        {"temperature": 0.8, "top_p": 0.9, "logprobs": 3},
        {"temperature": 0.0, "logprobs": 0, "prompt_logprobs": 2},
        {"temperature": 1.2, "top_k": 50, "repetition_penalty": 1.2, "logprobs": 1},
        {"temperature": 1.0, "min_p": 0.01, "presence_penalty": 0.5, "logprobs": 2, "prompt_logprobs": 0},
    ]
    made = []
    for index in range(count):
        prompt = (shared if index % 3 == 0 else []) + [
            rng.randrange(VOCAB) for _ in range((1, 70, 17, 33, 5)[index % 5])
        ]
        params = SamplingParams(max_tokens=outputs, seed=1000 + index, ignore_eos=True, **kinds[index % 4])
        # Every third has the same prefix, and not the same adapter.
        name = names[(index + index // 3) % len(names)]
        made.append(Submit(sequence_id=index, prompt_token_ids=tuple(prompt), params=params, adapter=name))
    return made


def said(engine: Engine, asked: Sequence[Submit], salt: bytes, *, preempt: bool = False) -> dict[int, bytes]:
    """All that is said of each request, to the last bit; the preemptions and the cache's part in it left out.

    `preempt`: whoever has said a token is preempted, and computed again for the next one.
    """
    outputs: dict[int, list[TokenDelta]] = {each.sequence_id: [] for each in asked}
    for each in asked:
        engine.submit(msgspec.structs.replace(each, cache_salt=salt))
    while engine.has_work:
        for output in engine.step().deltas:
            outputs[output.sequence_id].append(output)
            if preempt and output.finish is None:
                engine._scheduler._preempt(engine._alive[output.sequence_id][0])
        engine.check_integrity()
    return {
        sequence_id: msgspec.msgpack.encode([_bare(each) for each in mine]) for sequence_id, mine in outputs.items()
    }


def _bare(output: TokenDelta) -> Any:
    positions = [(each.logprob.hex(), each.top) for each in (*output.prompt_logprobs, *output.logprobs)]
    reason = output.finish.reason if output.finish is not None else None
    return (output.token_ids, output.text, output.margins, positions, reason)


def check(
    directory: Path,
    runner: Runner,
    batches: Sequence[int] = (2, 8, 64),
    chunks: Sequence[int] = (1, 7, 16),
    folders: Mapping[str, Path] = {},
    *,
    watch: int = 8,
    outputs: int = OUTPUTS,
) -> None:
    """`folders`: of adapters, by name. `watch`: so many requests are looked at, the others are company."""
    known = [AddAdapter(Adapter(name, 1, folder, runner.read_adapter(folder))) for name, folder in folders.items()]

    def engine(**settings: Any) -> Engine:
        bounds = {"model": directory, "max_running": 64, "max_step_tokens": 512, "prefill_chunk": 512, **settings}
        made = Engine(runner, tokenizer, EngineSettings(**bounds), seed=7)
        for adapter in known:
            made.accept(adapter)
        return made

    tokenizer = Tokenizer.load(directory)
    everybody = requests(max(batches), ["", *folders], outputs)
    roomy = engine()
    watched = everybody[:watch]
    # Each in a step of its own, and with nothing cached.
    alone = {each.sequence_id: said(roomy, [each], b"%d" % each.sequence_id)[each.sequence_id] for each in watched}

    def same(found: dict[int, bytes], among: Sequence[Submit]) -> None:
        for each in among:
            if each.sequence_id in alone:
                assert found[each.sequence_id] == alone[each.sequence_id], f"request {each.sequence_id} differs"

    for size in batches:
        company = everybody[:size]
        random.Random(size).shuffle(company)
        same(said(roomy, company, b"batch of %d" % size), company)
    hits = roomy.stats().prefix_hits_total
    same(said(roomy, watched, b"batch of %d" % max(batches)), watched)
    assert roomy.stats().prefix_hits_total > hits, "the cache was not warm"
    for chunk in chunks:
        same(said(engine(prefill_chunk=chunk, max_step_tokens=64), watched, b""), watched)
    for cached in (False, True):
        same(said(engine(prefix_cache=cached), watched, b"", preempt=True), watched)


def load(
    directory: Path,
    dtype: str,
    *,
    threads: int = 1,
    block_size: int = 16,
    pages: str = "auto",
    quantization: str | None = None,
    invariant: bool = False,
) -> Runner:
    settings = EngineSettings(
        model=directory,
        dtype=dtype,
        threads=threads,
        kv=KVSettings(memory=Bytes(2**23), block_size=block_size, dtype=pages),
        quantization=quantization,
        quantization_group=16 if quantization == "int4" else None,
        batch_invariant=invariant,
    )
    return load_runner(settings)


def by_nature(directory: Path) -> bool:
    """Served by compiled kernels alone, whose rows know nothing of each other."""
    return CpuKernels.unfit(read_model_config(directory), 16, torch.device("cpu"), torch.float32) is None


CI = ["llama-tied-llama3", "mistral-window", "gemma3", "qwen3-moe"]


@pytest.mark.sample(4)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CI)
def test_compiled_kernels_are_so_by_nature(case: str, dtype: str, tmp_path: Path) -> None:
    directory = models.write_model(case, tmp_path, dtype=getattr(torch, dtype))
    assert by_nature(directory)
    check(
        directory,
        load(directory, dtype, threads=2),
        batches=(64,) if case == "mistral-window" else (2, 12),
        chunks=(7,),
    )


@pytest.mark.sample(0, always=["float32"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_odd_width_is_no_exception(dtype: str, tmp_path: Path) -> None:
    directory = models.write_model("qwen3", tmp_path, dtype=getattr(torch, dtype), hidden_size=63)
    assert by_nature(directory)
    check(directory, load(directory, dtype, threads=2), batches=(2, 12), chunks=(7,))


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Runner]:
    """Loads a runner without any compiled kernel of ours."""
    monkeypatch.setattr(torch_runner, "LinearFactory", Plain)
    monkeypatch.setattr(CpuKernels, "unfit", lambda *_: "plain")
    return load


@pytest.mark.sample(0, always=["float32"])
@pytest.mark.parametrize(("case", "dtype"), [("gemma2", "float32"), pytest.param("qwen3-moe", "bfloat16", marks=BF16)])
def test_plain_torch_becomes_so(case: str, dtype: str, tmp_path: Path, plain: Callable[..., Runner]) -> None:
    directory = models.write_model(case, tmp_path, dtype=getattr(torch, dtype))
    check(directory, plain(directory, dtype, threads=2, invariant=True), batches=(9,), chunks=(33,), watch=4, outputs=5)


@pytest.mark.parity_full
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", models.CASES)
def test_every_model_as_it_is_served(case: str, dtype: str, threads: int, tmp_path: Path) -> None:
    directory = models.write_model(case, tmp_path, dtype=getattr(torch, dtype))
    check(directory, load(directory, dtype, threads=threads, invariant=not by_nature(directory)))


@pytest.mark.parity_full
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", models.CASES)
def test_every_model_in_plain_torch(
    case: str, dtype: str, threads: int, tmp_path: Path, plain: Callable[..., Runner]
) -> None:
    directory = models.write_model(case, tmp_path, dtype=getattr(torch, dtype))
    check(directory, plain(directory, dtype, threads=threads, invariant=True))


WITH_ADAPTERS = [
    ("float32", "auto", None),
    ("float32", "int8", None),
    pytest.param("bfloat16", "auto", None, marks=BF16),
    pytest.param("bfloat16", "int8", None, marks=BF16),
    pytest.param("bfloat16", "int8", "int8", marks=BF16),
    pytest.param("bfloat16", "int8", "int4", marks=BF16),
]


def check_adapted(case: str, dtype: str, pages: str, quantization: str | None, folder: Path, **sizes: Any) -> None:
    directory = models.write_model(case, folder, dtype=getattr(torch, dtype))
    pair = adapters.write_pair(case, directory, folder / "adapters")
    invariant = not by_nature(directory)
    runner = load(directory, dtype, pages=pages, quantization=quantization, invariant=invariant)
    check(directory, runner, folders=pair, **sizes)


@pytest.mark.parametrize(
    ("case", "dtype", "pages", "quantization"),
    [("gemma2", "float32", "auto", None), pytest.param("qwen3", "bfloat16", "int8", "int4", marks=BF16)],
)
def test_adapters(case: str, dtype: str, pages: str, quantization: str | None, tmp_path: Path) -> None:
    check_adapted(case, dtype, pages, quantization, tmp_path, batches=(12,), chunks=(7,))


@pytest.mark.parity_full
@pytest.mark.parametrize(("dtype", "pages", "quantization"), WITH_ADAPTERS)
@pytest.mark.parametrize("case", models.CASES)
def test_adapters_of_every_model(case: str, dtype: str, pages: str, quantization: str | None, tmp_path: Path) -> None:
    check_adapted(case, dtype, pages, quantization, tmp_path)


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
@pytest.mark.parametrize("inner", [112, 1000])
def test_a_gate_knows_only_its_own_row(inner: int, activation: Activation) -> None:
    """Many rows go to several threads of torch's, in shares that begin anywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        x = torch.randn(601, 2 * inner, generator=torch.Generator().manual_seed(0)) * 3
        alone = torch.cat([gated(row, activation) for row in x.split(1)])
        assert torch.equal(gated(x, activation), alone)
    finally:
        torch.set_num_threads(threads)


def test_a_device_that_cannot_is_found_out_at_load() -> None:
    weight = torch.ones((3, 8))
    check_places(lambda x: x @ weight.T, weight, 16)
    with pytest.raises(ModelError, match="depends on a row's place") as caught:
        check_places(lambda x: x @ weight.T + torch.arange(16).unsqueeze(1) // 15, weight, 16)
    assert caught.value.code == "batch_invariant"


@pytest.mark.parametrize("count", [1, 15, 16, 17, 40])
def test_tiles_have_one_shape_and_lose_no_row(count: int) -> None:
    shapes = set()

    def double(x: torch.Tensor) -> torch.Tensor:
        shapes.add(tuple(x.shape))
        return x * 2

    x = torch.randn(count, 3, 5)
    assert torch.equal(in_tiles(double, x, 16), x * 2)
    assert shapes == {(16, 3, 5)}
