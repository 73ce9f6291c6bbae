"""The official client asks a real process for embeddings: an encoder of random weights beside a model that chats."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
import torch

from config.load import parse_settings
from config.model.settings import EngineSettings
from engine.encoder_runner import EncoderRunner
from engine.text.tokenizer import Tokenizer
from tests.e2e.conftest import write_model
from tests.e2e.process import GatewayProcess
from tests.e2e.test_readme import blocks, run
from tests.engine.tiny_tokenizers import byte_level, byte_level_tokenizer
from tests.parity.decoder_vectors import embedded, last_rows, next_logprobs, write_embedder
from tests.parity.encoders import scores, write_classifier, write_encoder
from tests.parity.models import write_model as write_causal
from tests.patience import PATIENCE_S

CONFIG = """
schema = 1

[engines.mini]
model = "mini"

[engines.small]
model = "small"
kv = { memory = "4MiB" }

[models.mini]
description = "embeddings"

[models.small]

[[routes]]
name = "mini"
when = { model = ["mini"] }
use = { ladder = "mini" }

[engines.judge]
model = "judge"

[models.judge]

[[routes]]
name = "judge"
when = { model = ["judge"] }
use = { ladder = "judge" }

[[ladders.judge]]
to = "judge"

[engines.find]
model = "find"
kv = { memory = "4MiB" }

[models.find]

[[routes]]
name = "find"
when = { model = ["find"] }
use = { ladder = "find" }

[[ladders.find]]
to = "find"

[engines.rank]
model = "rank"
kv = { memory = "4MiB" }
[engines.rank.rerank]
yes = "y"
no = "n"
template = "<|bos|>{instruction}|{query}|{document}<|end|>"
instruction = "which?"

[models.rank]

[[routes]]
name = "rank"
when = { model = ["rank"] }
use = { ladder = "rank" }

[[ladders.rank]]
to = "rank"

[[routes]]
name = "small"
use = { ladder = "small" }

[moderations.omni-moderation-latest]
model = "judge"
categories.hate = { labels = ["LABEL_0"], threshold = 0.000001 }

[[ladders.mini]]
to = "mini"

[[ladders.small]]
to = "small"
"""
PROMPT = "Instruct: Find it.\nQuery:"
TEXTS = ["hello world", "Hello abc.", "xyz 123 hello hello", "a"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embeddings")
    write_encoder("bert", folder / "mini", matryoshka_dimensions=[16])
    write_classifier("bert-pairs", folder / "judge")
    write_model(folder / "small", 1)
    write_embedder("qwen3", "lasttoken", folder / "find", base=True, vocab_size=420)
    prompts = {"prompts": {"query": PROMPT}}
    (folder / "find" / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    write_causal("qwen3", folder / "rank", vocab_size=420)
    for name in ("find", "rank"):
        byte_level().save(str(folder / name / "tokenizer.json"))
    (folder / "config.toml").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[GatewayProcess]:
    process = GatewayProcess("--config", str(folder / "config.toml"), log=folder / "serve.log")
    yield process
    process.end()


@pytest.fixture
def client(served: GatewayProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def truth(folder: Path) -> list[list[float]]:
    tokenizer = Tokenizer.load(folder / "mini", spells=False)
    runner = EncoderRunner(EngineSettings(model=folder / "mini"), lambda _: None)
    return [runner.embed([tokenizer.encode(text)])[0].tolist() for text in TEXTS]


def test_embeddings_are_the_engine_s_to_the_bit(client: openai.OpenAI, truth: list[list[float]]) -> None:
    """The client asks for base64 by itself."""
    together = client.embeddings.create(model="mini", input=TEXTS)
    assert [each.index for each in together.data] == [0, 1, 2, 3]
    assert [each.embedding for each in together.data] == truth
    for text, expected in zip(TEXTS, truth, strict=True):
        (alone,) = client.embeddings.create(model="mini", input=text, encoding_format="float").data
        assert alone.embedding == expected
    assert together.usage.prompt_tokens == together.usage.total_tokens == 24
    assert together.model == "mini"


def test_token_ids(client: openai.OpenAI, folder: Path, truth: list[list[float]]) -> None:
    tokenizer = Tokenizer.load(folder / "mini", spells=False)
    ids = [tokenizer.encode(text) for text in TEXTS]
    assert client.embeddings.create(model="mini", input=ids[0]).data[0].embedding == truth[0]
    assert [each.embedding for each in client.embeddings.create(model="mini", input=ids).data] == truth


def test_dimensions(client: openai.OpenAI, truth: list[list[float]]) -> None:
    (cut,) = client.embeddings.create(model="mini", input=TEXTS[0], dimensions=16).data
    first = np.array(truth[0][:16])
    np.testing.assert_allclose(cut.embedding, first / np.linalg.norm(first), rtol=1e-5)
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="mini", input=TEXTS[0], dimensions=24)
    assert (refused.value.code, refused.value.param) == ("dimensions_unsupported", "dimensions")


def test_who_answered(client: openai.OpenAI) -> None:
    answer = client.embeddings.with_raw_response.create(model="mini", input="hello")
    assert (answer.headers["x-penstock-rung"], answer.headers["x-penstock-route"]) == ("mini", "mini")
    assert answer.headers["x-penstock-policy"]
    assert answer.headers["x-request-id"]


def test_models_are_listed_and_not_mixed_up(client: openai.OpenAI) -> None:
    assert {each.id: each.model_extra["max_model_len"] for each in client.models.list()}["mini"] == 140
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="small", input="hello")
    assert refused.value.code == "model_makes_text"
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="mini", messages=[{"role": "user", "content": "hello"}])
    assert refused.value.code == "model_makes_embeddings"
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model="mini", prompt="hello")
    assert refused.value.code == "model_makes_embeddings"
    answer = client.chat.completions.create(
        model="small", messages=[{"role": "user", "content": "What is 17 + 25?"}], max_tokens=3
    )
    assert answer.choices[0].finish_reason


def test_too_long_an_input(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="mini", input=["hello", "hello " * 139])
    assert refused.value.code == "context_length_exceeded"
    assert "140 tokens" in refused.value.message
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="mini", input="hello " * 20_000)
    assert "140 tokens" in refused.value.message
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="mini", input=["hello"] * 257)
    assert "at most 256" in refused.value.message


def test_figures(served: GatewayProcess, client: openai.OpenAI) -> None:
    client.embeddings.create(model="mini", input="hello")
    text = httpx.get(f"{served.url}/metrics", timeout=PATIENCE_S).text
    figures = dict(re.findall(r'^penstock:(\w+)\{[^}]*engine="mini"[^}]*\} (\S+)$', text, re.MULTILINE))
    assert float(figures["kv_cache_usage_perc"]) == 0
    assert float(figures["prompt_tokens_total"]) > 0
    assert float(figures["engine_steps_total"]) > 0


def test_the_page_runs(served: GatewayProcess) -> None:
    (text,) = blocks("docs/embeddings.md", "toml")
    assert parse_settings(text, Path("/etc/penstock.toml")).engines.keys() == {"mini"}
    (code,) = blocks("docs/embeddings.md", "python")
    assert run(served, [sys.executable, "-c"], code).startswith("alike: ")


def test_a_rerankers_scores_are_transformers_own(served: GatewayProcess, folder: Path) -> None:
    body = {"model": "judge", "query": "hello world", "documents": TEXTS, "return_documents": True}
    results = httpx.post(f"{served.url}/v1/rerank", json=body, timeout=PATIENCE_S).json()["results"]
    tokenizer = Tokenizer.load(folder / "judge", spells=False)
    inputs, seconds = zip(*[tokenizer.encode_pair("hello world", text) for text in TEXTS], strict=True)
    truth = scores("bert-pairs", folder / "judge", inputs, seconds, torch.float32).flatten().tolist()
    order = sorted(range(len(TEXTS)), key=lambda index: -truth[index])
    assert [each["index"] for each in results] == order
    assert [each["document"]["text"] for each in results] == [TEXTS[index] for index in order]
    assert [each["relevance_score"] for each in results] == pytest.approx([truth[index] for index in order], abs=1e-5)


def test_the_page_of_rerankers_runs(served: GatewayProcess) -> None:
    text = "\n".join(blocks("docs/reranking.md", "toml"))
    assert parse_settings(text, Path("/etc/penstock.toml")).engines["judge"].rerank is not None
    (code,) = blocks("docs/reranking.md", "python")
    lines = run(served, [sys.executable, "-c"], code).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["best", "score", "label"]


def test_a_decoders_embeddings_with_a_prompt_are_transformers_own(client: openai.OpenAI, folder: Path) -> None:
    texts = ["the quick brown fox " * 20, "dog"]
    answer = client.embeddings.create(model="find", input=texts, extra_body={"prompt_name": "query"})
    inputs = [byte_level_tokenizer().encode(PROMPT + text) for text in texts]
    truth = torch.stack([embedded(rows, "lasttoken") for rows in last_rows(folder / "find", inputs)])
    found = torch.tensor([each.embedding for each in answer.data])
    torch.testing.assert_close(found, truth, atol=1e-5, rtol=1e-5)
    assert answer.usage.prompt_tokens == sum(map(len, inputs))
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="find", input="dog", extra_body={"prompt_name": "passage"})
    assert (refused.value.code, refused.value.param) == ("prompt_name_unknown", "prompt_name")
    assert "'query'" in refused.value.message


def test_a_causal_reranker_answers_yes_or_no_as_transformers_does(served: GatewayProcess, folder: Path) -> None:
    documents = ["the lazy dog", "the quick brown fox jumps"]
    body = {"model": "rank", "query": "a fox", "documents": documents}
    results = httpx.post(f"{served.url}/v1/rerank", json=body, timeout=PATIENCE_S).json()["results"]
    tokenizer = byte_level_tokenizer()
    inputs = [tokenizer.encode(f"<|bos|>which?|a fox|{document}<|end|>") for document in documents]
    yes, no = [tokenizer.encode(word)[0] for word in "yn"]
    logits = torch.stack([rows[-1] for rows in next_logprobs(folder / "rank", inputs)])
    truth = logits[:, [yes, no]].softmax(1)[:, 0].tolist()
    assert {each["index"]: each["relevance_score"] for each in results} == pytest.approx(
        dict(enumerate(truth)), abs=1e-5
    )
    refused = httpx.post(f"{served.url}/v1/completions", json={"model": "rank", "prompt": "a"}, timeout=PATIENCE_S)
    assert refused.json()["error"]["code"] == "model_makes_scores"


def test_the_official_client_moderates(client: openai.OpenAI) -> None:
    answer = client.moderations.create(input=["hello world", "abc"])
    assert (answer.model, [each.flagged for each in answer.results]) == ("omni-moderation-latest", [True, True])
    first = answer.results[0]
    assert first.categories.hate
    assert not first.categories.self_harm_intent
    assert 0 < first.category_scores.hate < 1
    assert (first.category_applied_input_types.hate, first.category_applied_input_types.violence) == (["text"], [])
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    with pytest.raises(openai.BadRequestError) as refused:
        client.moderations.create(model="omni-moderation-latest", input=[image])
    assert refused.value.param == "input[0].type"


def test_the_page_of_decisions_runs(served: GatewayProcess) -> None:
    fragments = blocks("docs/decisions.md", "toml")
    text = "\n".join([CONFIG.partition("[moderations")[0], CONFIG[CONFIG.index("[[ladders.mini]]") :], *fragments])
    text = text.replace('model = "toxic"', 'model = "judge"').replace("penstock*", "small")
    settings = parse_settings(text, Path("/etc/penstock.toml"))
    assert (settings.decisions.keys(), settings.moderations.keys()) == ({"small"}, {"omni-moderation-latest"})
    assert settings.guardrails.keys() == {"no-medicine", "toxic"}
    (code,) = blocks("docs/decisions.md", "python")
    lines = run(served, [sys.executable, "-c"], code).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["complaint", "about", "urgent"]
