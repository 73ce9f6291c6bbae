"""Texts that are taken for secrets because of their form or of the name of their key, and others that are not."""

import pytest

from config.problems.secrets import is_secret_name, looks_secret


@pytest.mark.parametrize(
    "text",
    [
        "sk-Zq81hhTTx93b",
        "sk-proj-4b9fA0c2e1d7",
        "sk_live_9aF3k2Lm0pQ",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "hf_AbCdEf0123456789",
        "xoxb-123456789012-abcdef",
        "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIi",
        "Bearer abc",
        "penstock_ab12_0123456789abcdef",
        "https://me:word@host/v1",
        "0123456789abcdef0123456789abcdef0123456789abcdef",
    ],
)
def test_it_looks_so(text: str) -> None:
    assert looks_secret(text)


@pytest.mark.parametrize(
    "text",
    [
        "skip_to_large",
        "small",
        "thrifty",
        "sk",
        "support-chat",
        "models/qwen3-0.6b",
        "pkg-name",
        "penstock",
        "high_traffic",
        "https://vllm-a.example/v1",
        "Europe/Berlin",
        "Basically",
        "all-models-are-busy-please-try-again-later",
        "eyJ",
    ],
)
def test_it_does_not(text: str) -> None:
    assert not looks_secret(text)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        *[
            (name, True)
            for name in ("key", "api_key", "apiKey", "hash", "headers", "x-token", "password", "Authorization")
        ],
        *[
            (name, False)
            for name in ("key_header", "tokens", "keys", "max_tokens", "tokenizer", "header", "monkey", "id")
        ],
    ],
)
def test_names(name: str, is_one: bool) -> None:
    assert is_secret_name(name) == is_one
