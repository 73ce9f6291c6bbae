"""What a decoder makes by its files and settings, and what they must not say."""

import json
from pathlib import Path

import pytest

from config.model.rerank import RerankSettings
from config.model.settings import EngineSettings, KVSettings
from config.model.table import Bytes
from engine.errors import ModelError
from engine.load import load_engine
from engine.model.decoder_vectors import read_decoder_vectors
from engine.model.sentence_modules import TokenPair
from engine.model.vector_model import made_by, read_vector_model, vector_identity
from engine.model.vectors import EmbeddingSizes
from tests.parity import decoder_vectors, encoders, models


def change(path: Path, **values: object) -> None:
    raw = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**raw, **values}))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return models.write_model("qwen3", tmp_path)


def judging_modules(directory: Path, **config: object) -> None:
    listed = [
        {"type": "sentence_transformers.base.modules.transformer.Transformer", "path": ""},
        {"type": "sentence_transformers.cross_encoder.modules.logit_score.LogitScore", "path": "1_LogitScore"},
    ]
    (directory / "modules.json").write_text(json.dumps(listed))
    (directory / "1_LogitScore").mkdir()
    (directory / "1_LogitScore" / "config.json").write_text(json.dumps(config))


def test_a_causal_model_makes_text_until_something_says_otherwise(directory: Path) -> None:
    assert (made_by(directory), read_vector_model(directory)) == ("text", None)
    assert made_by(directory, RerankSettings()) == "scores"
    decoder_vectors.write_modules(directory, "lasttoken")
    assert made_by(directory) == "embeddings"
    change(directory / "config.json", architectures=["Qwen3ForSequenceClassification"])
    assert made_by(directory) == "scores"


def test_an_embedding_model_says_how_it_pools_and_what_is_put_before(directory: Path) -> None:
    decoder_vectors.write_modules(directory, "lasttoken")
    change(directory / "config.json", is_matryoshka=True)
    prompts = {"query": "Instruct: Find it.\nQuery:", "document": ""}
    change(directory / "config_sentence_transformers.json", prompts=prompts, default_prompt_name="document")
    change(directory / "sentence_bert_config.json", max_seq_length=100)
    found = read_vector_model(directory)
    assert found is not None
    assert (found.sizes, found.max_tokens, found.sentence.pooling) == (EmbeddingSizes(64, None), 100, "last")
    assert [found.sentence.prompt(name) for name in ("query", None, "none")] == [prompts["query"], "", None]


@pytest.mark.parametrize(
    ("rerank", "config", "tokens"),
    [
        ({"yes": "▁w7", "no": "▁w9"}, {}, TokenPair(7, 9)),
        ({}, {"classifier_from_token": ["▁w3", "▁w4"]}, TokenPair(4, 3)),
        ({"yes": "▁w7"}, {"classifier_from_token": ["▁w3", "▁w4"]}, TokenPair(7, 3)),
    ],
)
def test_the_two_answers(directory: Path, rerank: dict[str, str], config: dict[str, object], tokens: TokenPair) -> None:
    change(directory / "config.json", **config)
    found = read_decoder_vectors(directory, RerankSettings(**rerank))
    assert (found.judged_by, found.scored_by, found.sizes.labels) == (tokens, "sigmoid", ("relevant",))


def test_files_that_name_the_answers_need_no_table(directory: Path) -> None:
    judging_modules(directory, true_token_id=7, false_token_id=9)
    assert made_by(directory) == "scores"
    change(directory / "config_sentence_transformers.json", prompts={"web": "Find."}, default_prompt_name="web")
    found = read_decoder_vectors(directory, None)
    assert found.judged_by == TokenPair(7, 9)
    assert found.pair is not None
    assert found.pair.instruction == "Find."
    change(directory / "1_LogitScore" / "config.json", false_token_id=None)
    assert read_decoder_vectors(directory, None).judged_by == TokenPair(7, None)


@pytest.mark.parametrize(
    ("case", "rerank", "config", "named"),
    [
        ("qwen3", RerankSettings(yes="▁w7▁w8", no="▁w9"), {}, "'▁w7▁w8' is .* tokens"),
        ("qwen3", RerankSettings(), {"classifier_from_token": ["no"]}, "classifier_from_token"),
        ("llama", None, {"classifier_from_token": ["▁w9", "▁w7"]}, "rerank with a template"),
        (
            "qwen3",
            RerankSettings(yes="▁w7"),
            {"architectures": ["Qwen3ForSequenceClassification"]},
            "remove yes and no",
        ),
        ("qwen3", None, {"architectures": ["Qwen3Model"]}, "needs modules.json"),
    ],
)
def test_what_contradicts_itself_is_named(
    case: str, rerank: RerankSettings | None, config: dict[str, object], named: str, tmp_path: Path
) -> None:
    directory = models.write_model(case, tmp_path)
    change(directory / "config.json", **config)
    if case == "qwen3" and rerank is not None and rerank.yes == "▁w7▁w8":
        from tokenizers import Tokenizer, pre_tokenizers

        tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        tokenizer.pre_tokenizer = pre_tokenizers.Split("▁w8", "isolated")
        tokenizer.save(str(directory / "tokenizer.json"))
    with pytest.raises(ModelError, match=named):
        read_decoder_vectors(directory, rerank)


def test_a_malformed_pair_of_answers_is_named(directory: Path) -> None:
    judging_modules(directory, true_token_id="yes")
    with pytest.raises(ModelError, match="true_token_id"):
        read_decoder_vectors(directory, None)


def test_an_encoder_has_no_template(tmp_path: Path) -> None:
    directory = encoders.write_classifier("bert-pairs", tmp_path)
    with pytest.raises(ModelError, match="remove rerank"):
        load_engine(EngineSettings(model=directory, rerank=RerankSettings()), "judge")
    with pytest.raises(ModelError, match="remove rerank"):
        read_vector_model(directory, RerankSettings())


def test_a_model_that_makes_vectors_is_not_split(directory: Path) -> None:
    with pytest.raises(ModelError, match="not split"):
        load_engine(EngineSettings(model=directory, rerank=RerankSettings(), tensor_parallel=2), "judge")


def test_other_templates_make_other_scores() -> None:
    plain = EngineSettings(model=Path("m"))
    others = [EngineSettings(model=Path("m"), rerank=RerankSettings(instruction=each)) for each in ("a", "b")]
    assert len({vector_identity(each) for each in (plain, *others)}) == 3


@pytest.mark.parametrize(("meant", "stated", "longest"), [(10_000, None, 512), (100, None, 100), (100, 300, 300)])
def test_the_longest_input(directory: Path, meant: int, stated: int | None, longest: int) -> None:
    decoder_vectors.write_modules(directory, "lasttoken")
    change(directory / "sentence_bert_config.json", max_seq_length=meant)
    kv = KVSettings(memory=Bytes(2**21))
    engine = load_engine(EngineSettings(model=directory, kv=kv, threads=1, max_model_len=stated), "find")
    assert engine.limits.max_model_len == longest
    engine.close()
