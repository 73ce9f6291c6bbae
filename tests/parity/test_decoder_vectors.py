"""Vectors of decoders against transformers: embeddings, labels, and scores from two answers."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from config.model.rerank import RerankSettings
from config.model.settings import EngineSettings, KVSettings
from config.model.table import Bytes
from engine.core.decoder_embedder import DecoderEmbedder
from engine.load import load_engine
from engine.messages import Embed, Embedding
from tests.parity import decoder_vectors, models
from tests.sampling import named

LENGTHS = (1, 2, 30, 7, 128, 5, 17, 99, 64)


def some_inputs(seed: int) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(4, 211) for _ in range(length)] for length in LENGTHS]


def load(directory: Path, **changes) -> DecoderEmbedder:
    settings = {
        "kv": KVSettings(memory=Bytes(2**21)),
        "threads": 1,
        "max_step_tokens": 48,
        "prefill_chunk": 20,
        **changes,
    }
    engine = load_engine(EngineSettings(model=directory, **settings), "vectors")
    assert isinstance(engine, DecoderEmbedder)
    return engine


def vectors(engine: DecoderEmbedder, inputs: list[list[int]]) -> torch.Tensor:
    """Of all inputs at once; whatever was computed is free afterwards."""
    found: dict[int, bytes] = {}
    for number, each in enumerate(inputs):
        engine.accept(Embed(sequence_id=number, token_ids=tuple(each)))
    while engine.has_work:
        for output in engine.step().outputs:
            assert isinstance(output, Embedding), output
            assert (output.finish.reason, output.finish.prompt_tokens) == ("stop", len(inputs[output.sequence_id]))
            found[output.sequence_id] = output.vector
        engine.check_integrity()
    stats = engine.stats()
    assert (stats.free_blocks, stats.cached_blocks, stats.outstanding_tokens) == (stats.total_blocks, 0, 0)
    return torch.from_numpy(np.stack([np.frombuffer(found[number], "<f4") for number in range(len(inputs))]))


EMBEDDERS = [
    (f"{case}-{pooling}", (case, pooling, base))
    for case, pooling, base in (
        ("qwen3", "lasttoken", True),
        ("qwen3", "mean_tokens", False),
        ("qwen2-window", "cls_token", True),
        ("llama-tied-llama3", "lasttoken", False),
        ("mistral-window", "lasttoken", True),
        ("gemma2", "mean_tokens", True),
        ("gemma3", "lasttoken", True),
        ("phi3", "mean_tokens", True),
        ("mixtral", "lasttoken", True),
        ("qwen3-moe", "lasttoken", False),
    )
]


@pytest.mark.sample(4, always=["qwen3-lasttoken"])
@pytest.mark.parametrize("case", named(EMBEDDERS))
def test_embeddings_are_transformers_own(case: tuple[str, str, bool], tmp_path: Path) -> None:
    name, pooling, base = case
    directory = decoder_vectors.write_embedder(name, pooling, tmp_path, base=base)
    inputs = some_inputs(1)
    truth = torch.stack([
        decoder_vectors.embedded(rows, pooling) for rows in decoder_vectors.last_rows(directory, inputs)
    ])  # fmt: skip
    torch.testing.assert_close(vectors(load(directory), inputs), truth, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["lasttoken", "mean_tokens"])
def test_an_embedding_is_the_same_to_the_last_bit_in_any_company_and_in_any_chunks(
    pooling: str, tmp_path: Path
) -> None:
    directory = decoder_vectors.write_embedder("qwen3", pooling, tmp_path)
    inputs = some_inputs(2)
    engine = load(directory)
    alone = torch.cat([vectors(engine, [each]) for each in inputs])
    assert torch.equal(vectors(engine, inputs), alone)
    assert torch.equal(vectors(load(directory, prefill_chunk=7, max_step_tokens=64), inputs), alone)


@pytest.mark.parametrize(("case", "labels"), [("qwen3", 1), ("llama", 3)])
def test_labels_are_transformers_own(case: str, labels: int, tmp_path: Path) -> None:
    directory = decoder_vectors.write_classifier(case, tmp_path, num_labels=labels)
    inputs = some_inputs(3)
    logits = decoder_vectors.label_logits(directory, inputs)
    truth = logits.sigmoid() if labels == 1 else logits.softmax(1)
    torch.testing.assert_close(vectors(load(directory), inputs), truth, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", ["qwen3", "llama", "gemma2"])
def test_a_score_is_the_share_of_yes(case: str, tmp_path: Path) -> None:
    """Of models with a shared head, with one of their own, and with capped logits."""
    directory = models.write_model(case, tmp_path)
    inputs = some_inputs(4)
    logits = torch.stack([rows[-1] for rows in decoder_vectors.next_logprobs(directory, inputs)])
    truth = logits[:, [7, 9]].softmax(1)[:, :1]
    rerank = RerankSettings(yes="▁w7", no="▁w9")
    torch.testing.assert_close(vectors(load(directory, rerank=rerank), inputs), truth, atol=1e-5, rtol=1e-5)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "classifier_from_token": ["▁w9", "▁w7"]}))
    torch.testing.assert_close(vectors(load(directory, rerank=RerankSettings()), inputs), truth, atol=1e-5, rtol=1e-5)
