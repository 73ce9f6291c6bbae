"""Accuracy of quantized weights: answers and perplexity of the embedded models, logits of random models.

    python -m benchmarks.engine.quantization [--questions 800] [--no-parity]

Everything runs through the engine, in bfloat16; errors are relative to its own unquantized bfloat16.
"""

import argparse
import sys
import tempfile
import warnings
from pathlib import Path
from random import Random

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer

from config.model.settings import EngineSettings, KVSettings
from config.model.table import Bytes
from engine.errors import ModelError
from engine.offline import generate_offline
from engine.sampling.params import SamplingParams
from engine.scheduling.batch import Batch, SampleRow
from engine.tensor_parallel.runner import TensorRunner, load_runner
from engine.torch_runner import TorchRunner
from engine.zoo.corpus import Corpus
from engine.zoo.evaluate import MAX_ANSWER_TOKENS, wilson
from engine.zoo.recipe import RECIPES
from engine.zoo.tasks import held_out_questions
from engine.zoo.train import MODELS

Logits = npt.NDArray[np.float32]
KINDS: dict[str, dict[str, object]] = {
    "bf16": {},
    "int8": {"quantization": "int8"},
    "int4/32": {"quantization": "int4", "quantization_group": 32},
    "int4/64": {"quantization": "int4", "quantization_group": 64},
}
_KV = KVSettings(memory=Bytes(64 * 2**20))
_CORPUS_SEED = 99


def settings(model: Path, kind: str, threads: int) -> EngineSettings:
    plain = EngineSettings(model=model, dtype="bfloat16", threads=threads, kv=_KV)
    return msgspec.structs.replace(plain, **KINDS[kind])


def teacher_forced(runner: TorchRunner | TensorRunner, tokens: list[int]) -> Logits:
    """Logits [len(tokens), vocab] after each token, all in one step."""
    count, size = len(tokens), runner.block_size
    blocks = np.arange(1, 2 + count // size, dtype=np.int32)
    positions = np.arange(count, dtype=np.int64)
    none = SamplingParams(max_tokens=1)
    return runner.logits(
        Batch(
            token_ids=np.array(tokens, np.int64),
            positions=positions,
            slots=positions + size,
            query_starts=np.array([0, count], np.int32),
            context_lens=np.array([count], np.int32),
            block_tables=blocks.reshape(1, -1),
            samples=[SampleRow(row, none, 0, row + 1, tuple(tokens), []) for row in range(count)],
        )
    )


def logprobs(logits: Logits) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    normalised: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return normalised


class Errors(msgspec.Struct):
    """Errors of logits; KL divergence and agreement are of the distributions."""

    largest: float
    mean: float
    kl: float
    same_best: float

    @classmethod
    def of(cls, truth: list[Logits], compared: list[Logits]) -> "Errors":
        one, other = np.concatenate(truth), np.concatenate(compared)
        gap = np.abs(one - other)
        left, right = logprobs(one), logprobs(other)
        kl = (np.exp(left) * (left - right)).sum(-1).mean()
        return cls(float(gap.max()), float(gap.mean()), float(kl), float((one.argmax(-1) == other.argmax(-1)).mean()))

    def cells(self) -> str:
        return f"{self.largest:.3f} | {self.mean:.4f} | {self.kl:.5f} | {100 * self.same_best:.2f}"


def zoo(questions: int, conversations_count: int, threads: int) -> None:
    drawn = held_out_questions(Random(0), questions)
    print(f"{questions} held-out questions; perplexity of the answers in {conversations_count} conversations\n")
    print("| model | weights | right % [95 %] | perplexity | largest logit error | mean | KL nats | same best % |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in ("small", "large"):
        model = MODELS / name
        tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        corpus = Corpus(tokenizer, Random(_CORPUS_SEED), 512, RECIPES[name].stages[-1].lessons[-1].mix)
        conversations = [corpus.conversation() for _ in range(conversations_count)]
        truth: list[Logits] = []
        for kind in KINDS:
            chosen = settings(model, kind, threads)
            prompts = [question.prompt for question in drawn]
            answers = generate_offline(name, chosen, prompts, MAX_ANSWER_TOKENS, say).answers
            right = sum(answer.text == question.answer for answer, question in zip(answers, drawn, strict=True))
            low, high = wilson(right, questions)
            runner = load_runner(chosen)
            logits = [teacher_forced(runner, tokens) for tokens, _ in conversations]
            runner.close()
            truth = truth or logits
            share = f"{100 * right / questions:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
            words = f"{perplexity(conversations, logits):.4f} | {Errors.of(truth, logits).cells()}"
            print(f"| {name} | {kind} | {share} | {words} |", flush=True)


def perplexity(conversations: list[tuple[list[int], list[float]]], logits: list[Logits]) -> float:
    """Perplexity of the answers' tokens, weighted equally."""
    total, count = 0.0, 0
    for (tokens, weights), table in zip(conversations, logits, strict=True):
        targets = np.array(tokens[1:])
        learned = np.array(weights[1:]) > 0
        total -= float(logprobs(table)[np.arange(len(targets)), targets][learned].sum())
        count += int(learned.sum())
    return float(np.exp(total / count))


def parity(threads: int) -> None:
    from tests.parity import models

    print("\n| random model | weights | largest logit error | mean | KL nats | same best % |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for case in models.CASES:
            directory = models.write_model(case, Path(folder) / case, dtype=torch.bfloat16)
            rng = Random(case)
            texts = [[rng.randrange(211) for _ in range(80)] for _ in range(8)]
            truth: list[Logits] = []
            for kind, extra in {"bf16": {}, "int8": {}, "int4/16": {"quantization_group": 16}}.items():
                chosen = msgspec.structs.replace(
                    settings(directory, "bf16", threads), **({"quantization": kind[:4], **extra} if truth else {})
                )
                runner = load_runner(chosen)
                logits = [teacher_forced(runner, tokens) for tokens in texts]
                runner.close()
                if truth:
                    print(f"| {case} | {kind} | {Errors.of(truth, logits).cells()} |", flush=True)
                truth = truth or logits


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what quantized weights cost in accuracy.")
    parser.add_argument("--questions", type=int, default=800)
    parser.add_argument("--conversations", type=int, default=200, help="of which the perplexity is taken")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-zoo", action="store_true")
    parser.add_argument("--no-parity", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    try:
        if not arguments.no_zoo:
            zoo(arguments.questions, arguments.conversations, arguments.threads)
        if not arguments.no_parity:
            parity(arguments.threads)
    except ModelError as error:
        sys.exit(error.message)


if __name__ == "__main__":
    main()
