"""Decoders that make vectors, written as Hugging Face and sentence-transformers lay them out."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.parity import models

KINDS = ("Transformer", "Pooling", "Normalize")


def write_modules(directory: Path, pooling: str, *, normalize: bool = True) -> None:
    """The files that say that the last layer's rows are pooled."""
    kinds = KINDS if normalize else KINDS[:2]
    paths = ("", "1_Pooling", "2_Normalize")
    modules = [
        {"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in zip(kinds, paths, strict=False)
    ]
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "1_Pooling").mkdir(exist_ok=True)
    (directory / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{pooling}": True}))


def write_embedder(case: str, pooling: str, directory: Path, *, base: bool = False, **changes: Any) -> Path:
    """A case of `models`; `base`: the files have neither a head nor the base model's prefix."""
    models.write_model(case, directory, **changes)
    if base:
        model = transformers.AutoModel.from_pretrained(directory)
        (directory / "model.safetensors").unlink()
        model.save_pretrained(directory)
    write_modules(directory, pooling)
    return directory


def write_classifier(case: str, directory: Path, **changes: Any) -> Path:
    """The same with a head for labels."""
    models.write_model(case, directory, **changes)
    torch.manual_seed(1)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(directory, num_labels=changes["num_labels"])
    with torch.no_grad():
        model.score.weight.normal_(0, 0.3)
    model.save_pretrained(directory)
    return directory


def last_rows(directory: Path, inputs: list[list[int]]) -> list[torch.Tensor]:
    """Transformers' own [tokens, hidden] of each input, one by one."""
    model = transformers.AutoModel.from_pretrained(directory, attn_implementation="eager").eval()
    with torch.inference_mode():
        return [model(torch.tensor([each])).last_hidden_state[0] for each in inputs]


def embedded(rows: torch.Tensor, pooling: str) -> torch.Tensor:
    pooled = {"lasttoken": rows[-1], "cls_token": rows[0], "mean_tokens": rows.mean(0)}[pooling]
    return pooled / pooled.norm()


def label_logits(directory: Path, inputs: list[list[int]]) -> torch.Tensor:
    """Transformers' own [inputs, labels]."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        directory, attn_implementation="eager"
    ).eval()
    with torch.inference_mode():
        return torch.stack([model(torch.tensor([each])).logits[0] for each in inputs])


def next_logprobs(directory: Path, inputs: list[list[int]]) -> list[torch.Tensor]:
    """Transformers' own [tokens, vocab] of each input: the log-probabilities of what follows each token."""
    model = models.reference(directory)
    with torch.inference_mode():
        return [model(torch.tensor([each])).logits[0].log_softmax(-1) for each in inputs]
