"""The two calls of lm-evaluation-harness's `local-completions`, byte for byte, and read as it reads them.

Its package brings a hundred others, so its requests are written down here (lm_eval/models/openai_completions.py).
"""

from operator import itemgetter
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, PreTrainedModel

from tests.e2e.process import GatewayProcess
from tests.patience import PATIENCE_S

DOCUMENTS = [("Mia is 31. Mia is", " 31"), ("A city with a long river and a", " bridge of stone"), ("x", "y")]


@pytest.fixture(scope="module")
def reference(config: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(config.parent / "small", dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer(config: Path) -> Tokenizer:
    return Tokenizer.from_file(str(config.parent / "small" / "tokenizer.json"))


def loglikelihood(served: GatewayProcess, prompt: Any, context_lengths: list[int], **changes: Any) -> list[Any]:
    """(sum, greedy) of each continuation."""
    payload = {
        "model": "small",
        "prompt": prompt,
        "temperature": 0,
        "max_tokens": 1,
        "logprobs": 1,
        "seed": 1234,
        "echo": True,
        **changes,
    }
    body = httpx.post(f"{served.url}/v1/completions", json=payload, timeout=PATIENCE_S).raise_for_status().json()
    end = -1 if payload["max_tokens"] else None
    found = []
    choices = sorted(body["choices"], key=itemgetter("index"))
    for choice, length in zip(choices, context_lengths, strict=True):
        values = choice["logprobs"]["token_logprobs"][length:end]
        tops = choice["logprobs"]["top_logprobs"][length:end]
        assert choice["logprobs"]["token_logprobs"][0] is None
        greedy = all(value == max(top.values()) for value, top in zip(values, tops, strict=True))
        found.append((sum(values), greedy, choice))
    return found


def truth(reference: PreTrainedModel, ids: list[int], start: int) -> tuple[float, bool]:
    with torch.inference_mode():
        lines = reference(torch.tensor([ids])).logits[0].log_softmax(-1)
    wanted = ids[start:]
    rows = lines[start - 1 : -1]
    return float(rows[range(len(wanted)), wanted].sum()), rows.argmax(-1).tolist() == wanted


@pytest.mark.parametrize("max_tokens", [0, 1])
def test_loglikelihood_of_token_ids(
    served: GatewayProcess, reference: PreTrainedModel, tokenizer: Tokenizer, max_tokens: int
) -> None:
    prompts, lengths = [], []
    for context, continuation in DOCUMENTS:
        ids = tokenizer.encode(context).ids
        lengths.append(len(ids))
        prompts.append(ids + tokenizer.encode(continuation, add_special_tokens=False).ids)
    # The greedy continuation of one of them, so that the answer is yes once.
    with torch.inference_mode():
        best = int(reference(torch.tensor([prompts[0]])).logits[0, -1].argmax())
    lengths.append(len(prompts[0]))
    prompts.append([*prompts[0], best])
    found = loglikelihood(served, prompts, lengths, max_tokens=max_tokens)
    for (value, greedy, choice), ids, start in zip(found, prompts, lengths, strict=True):
        expected, is_greedy = truth(reference, ids, start)
        # The server computes in bfloat16 where the processor can.
        assert value == pytest.approx(expected, abs=0.02 * (len(ids) - start))
        assert greedy == is_greedy
        assert choice["text"].startswith(tokenizer.decode(ids))
        assert len(choice["logprobs"]["tokens"]) == len(ids) + max_tokens
    assert found[-1][1]


def test_loglikelihood_of_texts_is_that_of_their_tokens(served: GatewayProcess, tokenizer: Tokenizer) -> None:
    texts = [context + continuation for context, continuation in DOCUMENTS]
    ids = [tokenizer.encode(text).ids for text in texts]
    lengths = [1] * len(texts)
    by_text, by_ids = loglikelihood(served, texts, lengths), loglikelihood(served, ids, lengths)
    for (value, _, choice), (same, _, twin), text in zip(by_text, by_ids, texts, strict=True):
        assert value == same
        assert choice == twin
        assert choice["text"].startswith(text)
        tokens, offsets = choice["logprobs"]["tokens"], choice["logprobs"]["text_offset"]
        for token, start in zip(tokens, offsets, strict=True):
            assert token.startswith("<") or choice["text"][start : start + len(token)] == token
    (alone,) = loglikelihood(served, texts[0], [1])
    assert alone[0] == by_text[0][0]


def test_generate_until(served: GatewayProcess) -> None:
    payload = {
        "prompt": ["Mia is 31.", "A city"],
        "model": "small",
        "max_tokens": 24,
        "temperature": 0,
        "stop": ["\n\n", "<|end|>", "e"],
        "seed": 1234,
    }
    body = httpx.post(f"{served.url}/v1/completions", json=payload, timeout=PATIENCE_S).raise_for_status().json()
    assert [each["index"] for each in body["choices"]] == [0, 1]
    assert all("e" not in each["text"] for each in body["choices"])


def test_streams_say_the_same(served: GatewayProcess) -> None:
    from tests.gateway.harness import events

    payload = {
        "model": "small",
        "prompt": ["a b", "c"],
        "n": 2,
        "logprobs": 2,
        "max_tokens": 3,
        "echo": True,
        "seed": 5,
    }
    whole = httpx.post(f"{served.url}/v1/completions", json=payload, timeout=PATIENCE_S).raise_for_status().json()
    sent = httpx.post(f"{served.url}/v1/completions", json={**payload, "stream": True}, timeout=PATIENCE_S)
    texts: dict[int, str] = {}
    tokens: dict[int, list[str]] = {}
    values: dict[int, list[float | None]] = {}
    for chunk in events(sent.content)[:-1]:
        for choice in chunk["choices"]:
            index = choice["index"]
            texts[index] = texts.get(index, "") + choice["text"]
            if choice["logprobs"] is not None:
                tokens.setdefault(index, []).extend(choice["logprobs"]["tokens"])
                values.setdefault(index, []).extend(choice["logprobs"]["token_logprobs"])
    for choice in whole["choices"]:
        index = choice["index"]
        assert texts[index] == choice["text"]
        assert tokens[index] == choice["logprobs"]["tokens"]
        assert values[index] == choice["logprobs"]["token_logprobs"]
