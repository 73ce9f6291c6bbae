"""Configuration of encoders: what is read, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from config.model.settings import EngineSettings
from engine.core.engine import Engine
from engine.encoder_runner import EncoderRunner
from engine.errors import ModelError
from engine.load import load_engine
from engine.model.encoder_config import read_encoder_config
from engine.model.vector_model import is_encoder, made_by
from engine.model.vectors import EmbeddingSizes
from engine.text.tokenizer import Tokenizer
from tests.parity import encoders, models


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return encoders.write_encoder("bert", tmp_path)


def change(path: Path, **values: object) -> None:
    raw = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**raw, **values}))


def test_what_the_files_say(directory: Path) -> None:
    config = read_encoder_config(directory)
    assert (config.hidden_size, config.max_tokens, config.sizes) == (48, 140, EmbeddingSizes(48))
    assert (config.sentence.pooling, config.sentence.normalize) == ("mean", True)
    change(directory / "sentence_bert_config.json", max_seq_length=32, do_lower_case=False)
    shorter = read_encoder_config(directory)
    assert (shorter.max_tokens, shorter.usable_positions) == (32, 140)


def test_roberta_has_fewer_places_than_positions(tmp_path: Path) -> None:
    config = read_encoder_config(encoders.write_encoder("roberta", tmp_path))
    assert (config.positions, config.max_tokens) == (140, 138)


@pytest.mark.parametrize(
    ("values", "allowed"),
    [
        ({}, {48}),
        ({"matryoshka_dimensions": [16, 32, 48]}, {16, 32, 48}),
        ({"is_matryoshka": True}, set(range(1, 49))),
    ],
)
def test_sizes_that_mean_something(directory: Path, values: dict[str, object], allowed: set[int]) -> None:
    change(directory / "config.json", **values)
    sizes = read_encoder_config(directory).sizes
    assert {size for size in range(-1, 60) if sizes.allows(size)} == allowed


ONE, THREE = {"id2label": {"0": "x"}}, {"id2label": {"0": "a", "1": "b", "2": "c"}}
IDENTITY, SIGMOID = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Sigmoid"


@pytest.mark.parametrize(
    ("values", "labels", "scored_by"),
    [
        (ONE, ("x",), "sigmoid"),
        (THREE, ("a", "b", "c"), "softmax"),
        ({"id2label": None}, ("LABEL_0", "LABEL_1"), "softmax"),
        ({"id2label": None, "num_labels": 1}, ("LABEL_0",), "sigmoid"),
        ({**ONE, "problem_type": "regression"}, ("x",), "identity"),
        ({**THREE, "problem_type": "multi_label_classification"}, ("a", "b", "c"), "sigmoid"),
        ({**THREE, "problem_type": "single_label_classification"}, ("a", "b", "c"), "softmax"),
        ({**ONE, "sbert_ce_default_activation_function": IDENTITY}, ("x",), "identity"),
        ({**ONE, "sentence_transformers": {"version": "5"}}, ("x",), "sigmoid"),
        (
            {
                **ONE,
                "sentence_transformers": {"activation_fn": SIGMOID},
                "sbert_ce_default_activation_function": IDENTITY,
                "problem_type": "regression",
            },
            ("x",),
            "sigmoid",
        ),
    ],
)
def test_what_a_classifiers_scores_are(
    tmp_path: Path, values: dict[str, object], labels: object, scored_by: str
) -> None:
    directory = encoders.write_classifier("bert-pairs", tmp_path)
    change(directory / "config.json", **values)
    config = read_encoder_config(directory)
    assert (config.sizes, config.scored_by) == (EmbeddingSizes(len(labels), labels=labels), scored_by)
    assert (is_encoder(directory), made_by(directory), config.tells_texts_apart) == (True, "scores", True)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"id2label": {}}, "id2label"),
        ({"id2label": {"1": "a"}}, "id2label"),
        ({"id2label": {"0": 1}}, "id2label"),
        ({"id2label": ["a"]}, "id2label"),
        ({"problem_type": "ranking"}, "problem_type"),
        ({"sentence_transformers": {"activation_fn": "os.system"}}, "activation_fn"),
        ({"sbert_ce_default_activation_function": "os.system"}, "sbert_ce_default"),
    ],
)
def test_what_a_classifier_cannot_be(tmp_path: Path, values: dict[str, object], named: str) -> None:
    directory = encoders.write_classifier("bert-pairs", tmp_path)
    change(directory / "config.json", **values)
    with pytest.raises(ModelError, match=named):
        read_encoder_config(directory)


@pytest.mark.parametrize(
    ("file", "values", "named"),
    [
        ("config.json", {"architectures": ["DebertaModel"]}, "DebertaModel"),
        ("config.json", {"hidden_act": "swish"}, "hidden_act"),
        ("config.json", {"position_embedding_type": "relative_key"}, "relative_key"),
        ("config.json", {"is_decoder": True}, "is_decoder"),
        ("config.json", {"num_attention_heads": 5}, "num_attention_heads"),
        ("config.json", {"matryoshka_dimensions": [64]}, "matryoshka_dimensions"),
        ("sentence_bert_config.json", {"max_seq_length": "long"}, "max_seq_length"),
        ("sentence_bert_config.json", {"do_lower_case": True}, "do_lower_case"),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "mean_tokens and max_tokens"),
        ("1_Pooling/config.json", {"pooling_mode": "weightedmean_tokens"}, "weightedmean_tokens"),
        ("1_Pooling/config.json", {"include_prompt": False}, "include_prompt"),
        ("config_sentence_transformers.json", {"prompts": ["a"]}, "texts by name"),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}, "not among the prompts"),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": False}, "does not say how to pool"),
    ],
)
def test_what_is_not_done_is_named(directory: Path, file: str, values: dict[str, object], named: str) -> None:
    change(directory / file, **values)
    with pytest.raises(ModelError, match=named):
        read_encoder_config(directory)


@pytest.mark.parametrize(
    ("modules", "named"),
    [
        ([("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense")], "Dense"),
        ([("Transformer", "0_Transformer"), ("Pooling", "1_Pooling")], "0_Transformer"),
        ([("Pooling", "1_Pooling")], "Pooling at place 0"),
    ],
)
def test_modules_that_are_not_done_are_named(directory: Path, modules: list[tuple[str, str]], named: str) -> None:
    listed = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in modules]
    (directory / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(ModelError, match=named):
        read_encoder_config(directory)
    (directory / "modules.json").write_text("{}[")
    with pytest.raises(ModelError, match="not a list of modules"):
        read_encoder_config(directory)


def test_a_missing_or_misshapen_tensor_is_named(directory: Path) -> None:
    path = directory / "model.safetensors"
    tensors = load_file(path)
    name = "encoder.layer.1.output.LayerNorm.bias"
    for wrong in ({}, {name: torch.zeros(3)}):
        save_file({key: value for key, value in tensors.items() if key != name} | wrong, path)
        with pytest.raises(ModelError, match=name):
            EncoderRunner(EngineSettings(model=directory), lambda _: None)


def test_a_length_that_the_model_has_not_is_refused(directory: Path) -> None:
    assert EncoderRunner(EngineSettings(model=directory, max_model_len=20), lambda _: None).max_input_tokens == 20
    with pytest.raises(ModelError, match="140"):
        EncoderRunner(EngineSettings(model=directory, max_model_len=141), lambda _: None)


def test_the_architecture_says_what_serves_it(directory: Path, tmp_path: Path) -> None:
    assert (is_encoder(directory), made_by(directory)) == (True, "embeddings")
    engine = load_engine(EngineSettings(model=directory), "mini")
    assert (engine.limits.vocab_size, engine.limits.max_model_len) == (211, 140)
    engine.close()
    with pytest.raises(ModelError, match="BertModel is an encoder"):
        Engine.load(EngineSettings(model=directory), "mini")
    models.write_model("llama", tmp_path / "llama")
    assert (is_encoder(tmp_path / "llama"), made_by(tmp_path / "llama")) == (False, "text")
    assert made_by(tmp_path / "nowhere") == "text"


def test_a_tokenizer_that_only_reads_needs_no_decoder_that_we_know(directory: Path) -> None:
    tokenizer = Tokenizer.load(directory, spells=False)
    assert tokenizer.encode("Hello ab") == [encoders.CLS, encoders.PIECES.index("hello"), 4, 41, encoders.SEP]
    with pytest.raises(ModelError, match="WordPiece"):
        Tokenizer.load(directory)
