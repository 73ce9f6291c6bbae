"""Train the embedded models: `penstock zoo train`, or `python -m engine.zoo.train [--out DIR] [--model NAME]`.

Muon for the matrices (torch's own; https://kellerjordan.github.io/posts/muon/) and AdamW for the rest learned about
twice as much from the same tokens as AdamW alone. Matrix products run in bf16 under autocast, attention in fp32.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import msgspec
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention

from engine.zoo.corpus import Batch, Corpus
from engine.zoo.llama import Llama, save
from engine.zoo.recipe import RECIPES, Recipe
from engine.zoo.tokenizer import BOS, END, PAD, save_tokenizer, special_id, train_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tokenizers import Tokenizer

MODELS = Path(__file__).parent / "models"
"""Where the shipped models lie, `small` and `large`."""
THREADS = 2
_PROGRESS_STEPS = 50


class Progress(msgspec.Struct, frozen=True):
    """Where a run stands; `loss` is the mean over the steps since the last report, in nats an answer token."""

    model: str
    step: int
    steps: int
    loss: float
    tokens_per_s: float
    eta_s: float

    def __str__(self) -> str:
        return (
            f"{self.model}: step {self.step}/{self.steps}  loss {self.loss:.4f}  "
            f"{self.tokens_per_s:,.0f} tokens/s  {self.eta_s / 60:.1f} min left"
        )


def _optimizers(model: Llama, recipe: Recipe) -> list[torch.optim.Optimizer]:
    inner = {name for name, p in model.named_parameters() if p.dim() == 2 and name.startswith("model.layers.")}
    matrices = [p for name, p in model.named_parameters() if name in inner]
    vectors = [p for name, p in model.named_parameters() if name not in inner]
    return [
        torch.optim.Muon(matrices, lr=recipe.matrix_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(vectors, lr=recipe.vector_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def _loss(model: Llama, batch: Batch) -> torch.Tensor:
    """The weighted sum over the batch's answer tokens; nothing else goes through the head."""
    learned = batch.weights > 0
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.lm_head(model.hidden(batch.tokens)[learned])
    losses = F.cross_entropy(logits.float(), batch.targets[learned], reduction="none")
    return (losses * batch.weights[learned]).sum()


def train_model(
    name: str, recipe: Recipe, tokenizer: Tokenizer, report: Callable[[Progress], None], stop_after: int | None = None
) -> Llama:
    """One model from its recipe; `stop_after` ends it early (for tests)."""
    torch.manual_seed(recipe.seed)
    model = Llama(recipe.shape)
    rng = Random(recipe.seed)  # noqa: S311 - data, not secrets
    corpus = Corpus(tokenizer, rng, recipe.shape.max_position_embeddings)
    optimizers = _optimizers(model, recipe)
    peaks = [(group, group["lr"]) for optimizer in optimizers for group in optimizer.param_groups]
    steps = corpus.steps(recipe.tokens_a_step)
    began = reported = time.perf_counter()
    tokens, losses = 0, []
    for step in range(min(recipe.steps, stop_after or recipe.steps)):
        corpus.hardest = recipe.hardest(step)
        for group, peak in peaks:
            group["lr"] = peak * recipe.rate(step)
        batches = next(steps)
        total = sum(float(batch.weights.sum()) for batch in batches)
        losses.append(0.0)
        for batch in batches:
            loss = _loss(model, batch) / total
            loss.backward()  # type: ignore[no-untyped-call]
            losses[-1] += float(loss.detach())
            tokens += batch.tokens.numel()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        done = step + 1
        if done % _PROGRESS_STEPS == 0 or done in {1, recipe.steps, stop_after}:
            now = time.perf_counter()
            eta_s = (now - began) / done * (recipe.steps - done)
            report(Progress(name, done, recipe.steps, sum(losses) / len(losses), tokens / (now - reported), eta_s))
            reported, tokens, losses = now, 0, []
    return model


def train_zoo(out: Path, which: Sequence[str], progress: Callable[[str], None]) -> None:
    """Train the tokenizer and the named models into `out/<name>`; one progress line every 50 steps."""
    torch.set_num_threads(THREADS)
    tokenizer = train_tokenizer()
    for name in which:
        recipe = RECIPES[name]
        began, cpu = time.perf_counter(), time.process_time()
        model = train_model(name, recipe, tokenizer, lambda report: progress(str(report)))
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        save_tokenizer(tokenizer, folder, recipe.shape.max_position_embeddings)
        bos, eos, pad = (special_id(tokenizer, token) for token in (BOS, END, PAD))
        save(model, folder, bos=bos, eos=eos, pad=pad)
        size = sum(parameter.numel() for parameter in model.parameters())
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
        progress(f"{name}: {size / 1e6:.2f} M parameters, {wall_s:.0f} s wall, {cpu_s:.0f} s of CPU, in {folder}")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m engine.zoo.train", description="Train the embedded models.")
    parser.add_argument("--out", type=Path, default=MODELS)
    parser.add_argument("--model", choices=tuple(RECIPES), action="append", help="default: all")
    options = parser.parse_args(arguments)
    train_zoo(options.out, options.model or tuple(RECIPES), lambda line: print(line, flush=True))  # noqa: T201


if __name__ == "__main__":
    main()
