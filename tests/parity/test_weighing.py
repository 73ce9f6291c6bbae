"""Probabilities of answers against transformers: the answer's tokens forced one after the other."""

import random
from math import exp, log
from pathlib import Path

import numpy as np
import pytest
import torch

from config.model.settings import EngineSettings, KVSettings
from config.model.table import Bytes
from engine.core.engine import Engine
from engine.messages import Embedding, Weigh
from tests.parity import decoder_vectors, models

ANSWERS = ((7,), (9, 11, 13), (9, 11, 14), (9, 12), (8, 8), (9,))


@pytest.mark.parametrize("prefix_cache", [True, False])
def test_an_answers_probability_is_that_of_its_tokens(prefix_cache: bool, tmp_path: Path) -> None:
    directory = models.write_model("qwen3", tmp_path)
    settings = EngineSettings(
        model=directory,
        kv=KVSettings(memory=Bytes(2**21)),
        threads=1,
        prefix_cache=prefix_cache,
        prefill_chunk=20,
        max_step_tokens=64,
    )
    engine = Engine.load(settings, "small")
    rng = random.Random(5)
    prompts = [[rng.randrange(4, 211) for _ in range(length)] for length in (1, 15, 33, 70)]
    for number, prompt in enumerate(prompts):
        engine.accept(Weigh(sequence_id=number, prompt_token_ids=tuple(prompt), answers=ANSWERS))
    found = {}
    while engine.has_work:
        for output in engine.step().outputs:
            assert isinstance(output, Embedding), output
            found[output.sequence_id] = np.frombuffer(output.vector, "<f4")
        engine.check_integrity()
    for number, prompt in enumerate(prompts):
        forced = decoder_vectors.next_logprobs(directory, [[*prompt, *answer] for answer in ANSWERS])
        truth = [
            sum(float(rows[len(prompt) - 1 + place, token]) for place, token in enumerate(answer))
            for rows, answer in zip(forced, ANSWERS, strict=True)
        ]
        others = sum(exp(truth[place]) for place in (1, 2, 3))
        truth[-1] = log(exp(truth[-1]) - others)
        torch.testing.assert_close(torch.from_numpy(found[number].copy()), torch.tensor(truth), atol=1e-5, rtol=1e-5)
    engine.close()
