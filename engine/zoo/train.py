"""Train the embedded models: `penstock zoo train`.

Muon for the matrices (torch's own; https://kellerjordan.github.io/posts/muon/) and AdamW for the rest learned about
twice as much from the same tokens as AdamW alone. Matrix products run in bfloat16 under autocast, attention in float32.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import msgspec
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from tokenizers import Tokenizer

from engine.zoo.corpus import Corpus, TrainingBatch
from engine.zoo.llama import Llama, LlamaShape, save
from engine.zoo.recipe import RECIPES, Recipe, Stage
from engine.zoo.tasks import TASKS
from engine.zoo.tokenizer import BOS, END, PAD, save_tokenizer, special_id, train_tokenizer

MODELS = Path(__file__).parent / "models"
"""The shipped models `small` and `large`."""
THREADS = 2
_PROGRESS_STEPS = 50


class TrainingProgress(msgspec.Struct, frozen=True):
    """Progress of a run; `loss` is the mean over the steps since the last report, in nats per answer token."""

    model: str
    step: int
    steps: int
    """Total steps of the stage."""
    loss: float
    tokens_per_s: float
    eta_s: float

    def __str__(self) -> str:
        return (
            f"{self.model}: step {self.step}/{self.steps}  loss {self.loss:.4f}  "
            f"{self.tokens_per_s:,.0f} tokens/s  {self.eta_s / 60:.1f} min left"
        )


def _optimizers(model: Llama, stage: Stage) -> list[torch.optim.Optimizer]:
    inner = {name for name, p in model.named_parameters() if p.dim() == 2 and name.startswith("model.layers.")}
    matrices = [p for name, p in model.named_parameters() if name in inner]
    vectors = [p for name, p in model.named_parameters() if name not in inner]
    return [
        torch.optim.Muon(matrices, lr=stage.matrix_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(vectors, lr=stage.vector_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def _loss(model: Llama, batch: TrainingBatch) -> torch.Tensor:
    """The weighted sum over the batch's answer tokens; logits are computed for these positions only."""
    learned = batch.weights > 0
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.lm_head(model.hidden(batch.tokens)[learned])
    losses = F.cross_entropy(logits.float(), batch.targets[learned], reduction="none")
    return (losses * batch.weights[learned]).sum()


def grown(model: Llama | None, shape: LlamaShape, seed: int) -> Llama:
    """A new model of this shape; with `model`, its weights, and added layers that start as identity."""
    torch.manual_seed(seed)
    fresh = Llama(shape)
    if model is None:
        return fresh
    known = model.state_dict()
    state = {name: known.get(name, value) for name, value in fresh.state_dict().items()}
    for name, value in state.items():
        if name not in known and name.endswith(("o_proj.weight", "down_proj.weight")):
            value.zero_()
    fresh.load_state_dict(state)
    return fresh


def train_stage(
    name: str, model: Llama, stage: Stage, tokenizer: Tokenizer, report: Callable[[TrainingProgress], None]
) -> None:
    """Train one stage in place; the weights end rounded to bfloat16, as they are saved."""
    rng = Random(stage.seed)  # noqa: S311 - data, not secrets
    corpus = Corpus(tokenizer, rng, model.shape.max_position_embeddings, stage.lessons[0].mix)
    optimizers = _optimizers(model, stage)
    peaks = [(group, group["lr"]) for optimizer in optimizers for group in optimizer.param_groups]
    steps = corpus.steps(stage.tokens_a_step)
    began = reported = time.perf_counter()
    tokens, losses = 0, []
    for step in range(stage.steps):
        lesson = stage.lesson(step)
        corpus.mix = lesson.mix
        corpus.hardest = {**dict.fromkeys(TASKS, lesson.hardest), "lookups": lesson.hardest_lookups}
        for group, peak in peaks:
            group["lr"] = peak * stage.rate(step)
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
        if done % _PROGRESS_STEPS == 0 or done in {1, stage.steps}:
            now = time.perf_counter()
            eta_s = (now - began) / done * (stage.steps - done)
            report(
                TrainingProgress(name, done, stage.steps, sum(losses) / len(losses), tokens / (now - reported), eta_s)
            )
            reported, tokens, losses = now, 0, []
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())


def train_model(
    name: str,
    recipe: Recipe,
    tokenizer: Tokenizer,
    report: Callable[[TrainingProgress], None],
    begin: Llama | None = None,
) -> Llama:
    """Train a model from its recipe; `begin` replaces the result of the first stage."""
    model = begin
    for stage in recipe.stages[0 if begin is None else 1 :]:
        shape = msgspec.structs.replace(recipe.shape, num_hidden_layers=stage.layers)
        model = grown(model, shape, stage.seed)
        before = {key: value.clone() for key, value in model.state_dict().items()} if stage.kept else {}
        train_stage(name, model, stage, tokenizer, report)
        for key, value in model.state_dict().items():
            if stage.kept:
                value.lerp_(before[key], stage.kept).copy_(value.bfloat16())
    assert model is not None, "a recipe has stages"
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
