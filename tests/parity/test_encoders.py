"""Embeddings against transformers, and that an input's embedding does not depend on its company."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from config.model.settings import EngineSettings
from engine.encoder_runner import EncoderRunner
from engine.errors import ModelError
from engine.kernels.simd import has_bfloat16_products
from engine.text.tokenizer import Tokenizer
from tests.parity import encoders

BF16 = pytest.mark.skipif(not has_bfloat16_products(), reason="this processor does not compute in bfloat16")
DTYPES = ["float32", pytest.param("bfloat16", marks=BF16)]
LENGTHS = (1, 2, 30, 7, 128, 5, 64, 7, 99)


def load(directory: Path, dtype: str = "float32", threads: int = 1) -> EncoderRunner:
    return EncoderRunner(EngineSettings(model=directory, dtype=dtype, threads=threads), lambda _: None)


def some_inputs(seed: int, vocab: int = 211) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(4, vocab) for _ in range(length)] for length in LENGTHS]


@pytest.mark.parametrize("case", encoders.CASES)
def test_float32_is_transformers_own(case: str, tmp_path: Path) -> None:
    directory = encoders.write_encoder(case, tmp_path)
    inputs = some_inputs(1)
    truth = torch.stack([encoders.embedded(case, rows) for rows in encoders.last_layer(directory, inputs)])
    found = torch.from_numpy(load(directory).embed(inputs))
    torch.testing.assert_close(found, truth, atol=1e-5, rtol=1e-5)


@BF16
@pytest.mark.parametrize("case", encoders.CASES)
def test_bfloat16_is_as_close_to_the_truth_as_transformers_is(case: str, tmp_path: Path) -> None:
    """Truth: the same weights computed in float32. Tolerance: transformers' own error in bfloat16."""
    directory = encoders.write_encoder(case, tmp_path, dtype=torch.bfloat16)
    inputs = some_inputs(2)
    truth, theirs = (
        torch.stack([encoders.embedded(case, rows) for rows in encoders.last_layer(directory, inputs, dtype)])
        for dtype in (torch.float32, torch.bfloat16)
    )
    runner = load(directory, "auto")
    assert runner.dtype == "bfloat16"
    ours = torch.from_numpy(runner.embed(inputs))
    assert (ours - truth).norm(dim=1).mean() <= (theirs - truth).norm(dim=1).mean()
    assert torch.cosine_similarity(ours, truth).min() > 0.999


@pytest.mark.sample(10)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", ["bert", "bert-cls", "bert-odd-heads", "roberta", "modernbert", "modernbert-biases"])
def test_an_embedding_is_the_same_to_the_last_bit_in_any_company(
    case: str, dtype: str, threads: int, tmp_path: Path
) -> None:
    runner = load(encoders.write_encoder(case, tmp_path, dtype=getattr(torch, dtype)), dtype, threads)
    inputs = some_inputs(3)
    alone = [runner.embed([each])[0].tobytes() for each in inputs]
    rng = random.Random(3)
    for size in (2, 3, len(inputs)):
        for _ in range(4):
            chosen = rng.sample(range(len(inputs)), size)
            found = runner.embed([inputs[index] for index in chosen])
            assert [each.tobytes() for each in found] == [alone[index] for index in chosen]


def test_windows_of_long_inputs_are_transformers_own(tmp_path: Path) -> None:
    """Longer than the pieces in which a window is computed."""
    directory = encoders.write_encoder("modernbert", tmp_path, max_position_embeddings=900, local_attention=64)
    inputs = [[4 + (7 * place + length) % 200 for place in range(length)] for length in (900, 32, 33, 257)]
    truth = torch.stack([encoders.embedded("modernbert", rows) for rows in encoders.last_layer(directory, inputs)])
    torch.testing.assert_close(torch.from_numpy(load(directory).embed(inputs)), truth, atol=1e-5, rtol=1e-5)


SECONDS = (None, 1, 15, 3, None, 5, 40, 1, 98)


@pytest.mark.parametrize("case", encoders.CLASSIFIERS)
def test_a_classifiers_float32_is_transformers_own(case: str, tmp_path: Path) -> None:
    directory = encoders.write_classifier(case, tmp_path)
    inputs = some_inputs(4)
    truth = encoders.scores(case, directory, inputs, SECONDS, torch.float32)
    runner = load(directory)
    assert len(runner.sizes.labels) == runner.sizes.whole == truth.shape[1]
    torch.testing.assert_close(torch.from_numpy(runner.embed(inputs, SECONDS)), truth, atol=1e-5, rtol=1e-5)


@BF16
@pytest.mark.parametrize("case", ["bert-raw", "xlm-roberta-labels"])
def test_a_classifiers_bfloat16_is_as_close_to_the_truth_as_transformers_is(case: str, tmp_path: Path) -> None:
    directory = encoders.write_classifier(case, tmp_path, dtype=torch.bfloat16)
    inputs = some_inputs(5)
    truth, theirs = (
        encoders.scores(case, directory, inputs, SECONDS, dtype) for dtype in (torch.float32, torch.bfloat16)
    )
    ours = torch.from_numpy(load(directory, "auto").embed(inputs, SECONDS))
    assert (ours - truth).norm(dim=1).mean() <= (theirs - truth).norm(dim=1).mean()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", ["bert-labels", "roberta-pairs", "modernbert-pairs"])
def test_scores_are_the_same_to_the_last_bit_in_any_company(case: str, dtype: str, tmp_path: Path) -> None:
    runner = load(encoders.write_classifier(case, tmp_path, dtype=getattr(torch, dtype)), dtype)
    inputs = some_inputs(6)
    alone = [runner.embed([each], [second])[0].tobytes() for each, second in zip(inputs, SECONDS, strict=True)]
    assert [row.tobytes() for row in runner.embed(inputs, SECONDS)] == alone
    if case == "bert-labels":
        assert runner.embed([inputs[2]], [None])[0].tobytes() != alone[2]


def test_a_pair_is_encoded_as_transformers_does(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    directory = encoders.write_classifier("bert-pairs", tmp_path)
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(directory / "tokenizer.json"))
    ours = Tokenizer.load(directory, spells=False)
    for first, second in (("hello", "world."), ("", "a"), ("hello " * 2000, "b")):
        read = theirs(first, second, return_token_type_ids=True)
        ids, at = ours.encode_pair(first, second)
        assert ids == read["input_ids"]
        assert at == read["token_type_ids"].index(1)
    assert ours.beginning("hello  world. a", 2) == "hello  world"
    assert ours.beginning("hello", 2) == "hello"


def test_roberta_skips_padding_as_transformers_does(tmp_path: Path) -> None:
    directory = encoders.write_encoder("roberta", tmp_path)
    inputs = [[0, 9, 1, 8, 2], [1, 7]]
    truth = torch.stack([encoders.embedded("roberta", rows) for rows in encoders.last_layer(directory, inputs)])
    torch.testing.assert_close(torch.from_numpy(load(directory).embed(inputs)), truth, atol=1e-5, rtol=1e-5)


TEXTS = [
    "A man is eating food.",
    "Someone has a meal.",
    "The girl is carrying a baby.",
    "Ein Mann reitet auf einem weißen Pferd über ein eingezäuntes Gelände.",
    "word " * 200,
]


@pytest.mark.parametrize(("dtype", "least"), [("float32", 1 - 1e-6), pytest.param("bfloat16", 0.9995, marks=BF16)])
def test_the_real_model(dtype: str, least: float) -> None:
    from transformers import AutoTokenizer

    directory = encoders.real_model()
    reader = AutoTokenizer.from_pretrained(directory)
    inputs = [reader(text)["input_ids"] for text in TEXTS]
    ours = Tokenizer.load(directory, spells=False)
    assert [ours.encode(text) for text in TEXTS] == inputs
    runner = load(directory, dtype)
    assert (runner.max_input_tokens, runner.sizes.whole) == (256, 384)
    found = torch.from_numpy(runner.embed(inputs))
    truth = torch.stack([encoders.embedded("bert", rows) for rows in encoders.last_layer(directory, inputs)])
    assert torch.cosine_similarity(found, truth).min() > least
    if dtype == "float32":
        torch.testing.assert_close(found, truth, atol=1e-5, rtol=1e-5)
    alone = [runner.embed([each])[0].tobytes() for each in inputs]
    assert [each.tobytes() for each in found.numpy()] == alone
    likeness = found @ found.T
    assert likeness[0, 1] > 0.6
    assert likeness[0, 2] < 0.3
    assert np.allclose(found.norm(dim=1), 1)


def test_quantized_encoders_are_refused(tmp_path: Path) -> None:
    directory = encoders.write_encoder("bert", tmp_path)
    with pytest.raises(ModelError, match="is an encoder, which is not computed quantized"):
        EncoderRunner(EngineSettings(model=directory, quantization="int8"), lambda _: None)
