"""One gateway in front of another, over real sockets, with the official client."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.e2e.process import GatewayProcess

CONFIG = """
schema = 1

[ledger]
path = "front.sqlite3"

[upstreams.behind]
urls = ["{url}/v1"]
model = "small"
key = {{ env = "BEHIND_KEY" }}
supports = ["sampling"]

[models.any]

[[routes]]
name = "all"
use = {{ ladder = "outward" }}

[[ladders.outward]]
to = "behind"

[[ladders.outward]]
answer = "Nobody is there."
mark = "degraded"
"""
ASK: dict[str, Any] = {
    "model": "any",
    "messages": [{"role": "user", "content": "What is 17 + 25?"}],
    "max_tokens": 12,
    "temperature": 0,
    "extra_body": {"ignore_eos": True},
}
COMPLETE: dict[str, Any] = {**ASK, "prompt": ("17 + 25 =", "2 + 2 ="), "n": 2}
del COMPLETE["messages"]


def front_of(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> GatewayProcess:
    (folder / "front.toml").write_text(CONFIG.format(url=url))
    monkeypatch.setenv("BEHIND_KEY", "sk-end-to-end")
    return GatewayProcess("--config", str(folder / "front.toml"), log=folder / "front.log")


@pytest.fixture(scope="module")
def front(served: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        process = front_of(served.url, tmp_path_factory.mktemp("front"), monkeypatch)
    yield process
    process.end()


def client_of(process: GatewayProcess) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{process.url}/v1", api_key="none", max_retries=0)


def test_it_says_what_the_one_behind_says(front: GatewayProcess, served: GatewayProcess) -> None:
    with client_of(front) as near, client_of(served) as far:
        direct = far.chat.completions.create(**{**ASK, "model": "small"})
        whole = near.chat.completions.with_raw_response.create(**ASK)
        assert whole.headers["x-penstock-rung"] == "behind"
        answer = whole.parse()
        assert answer.choices[0].message.content == direct.choices[0].message.content
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage is not None
        assert direct.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (direct.usage.prompt_tokens, 12)
        chunks = list(near.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}))
        said = "".join([each.choices[0].delta.content or "" for each in chunks if each.choices])
        assert said == direct.choices[0].message.content
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 12


def test_text_completions_with_log_probabilities(front: GatewayProcess, served: GatewayProcess) -> None:
    with client_of(front) as near, client_of(served) as far:
        direct = far.completions.create(**{**COMPLETE, "model": "small"}, logprobs=2)
        answer = near.completions.create(**COMPLETE, logprobs=2)
        assert [each.text for each in answer.choices] == [each.text for each in direct.choices]
        for ours, theirs in zip(answer.choices, direct.choices, strict=True):
            assert ours.logprobs is not None
            assert theirs.logprobs is not None
            assert ours.logprobs.tokens == theirs.logprobs.tokens
            assert ours.logprobs.top_logprobs == theirs.logprobs.top_logprobs


def test_tools_and_json_through_both(front: GatewayProcess, served: GatewayProcess) -> None:
    tool: dict[str, Any] = {
        "type": "function",
        "function": {
            "name": "paint",
            "parameters": {
                "type": "object",
                "properties": {"colour": {"enum": ["red", "blue"]}},
                "required": ["colour"],
                "additionalProperties": False,
            },
        },
    }
    asked: dict[str, Any] = {"messages": ASK["messages"], "max_tokens": 200, "temperature": 1.0, "seed": 4}
    called: dict[str, Any] = {**asked, "tools": [tool], "tool_choice": "required", "parallel_tool_calls": False}
    schema = {"name": "paint", "schema": tool["function"]["parameters"], "strict": True}
    bound: dict[str, Any] = {**asked, "response_format": {"type": "json_schema", "json_schema": schema}}
    with client_of(front) as near, client_of(served) as far:
        direct = far.chat.completions.create(**called, model="small").choices[0].message.tool_calls
        assert direct
        answer = near.chat.completions.create(**called, model="any").choices[0]
        assert answer.finish_reason == "tool_calls"
        assert [each.function for each in answer.message.tool_calls or ()] == [each.function for each in direct]
        with near.chat.completions.stream(**called, model="any") as stream:
            streamed = stream.get_final_completion().choices[0].message.tool_calls
        assert [each.function.arguments for each in streamed or ()] == [each.function.arguments for each in direct]
        json_far = far.chat.completions.create(**bound, model="small").choices[0].message.content
        assert near.chat.completions.create(**bound, model="any").choices[0].message.content == json_far
        made = [each.model_dump(exclude_none=True) for each in answer.message.tool_calls or ()]
        turns = [
            *asked["messages"],
            {"role": "assistant", "tool_calls": made},
            {"role": "tool", "tool_call_id": made[0]["id"], "content": "done"},
        ]
        after = near.chat.completions.create(**{**asked, "messages": turns, "max_tokens": 4}, model="any")
        assert after.model_extra is not None
        assert after.model_extra["penstock"]["rung"] == "behind"


def test_a_death_in_mid_stream_is_an_error_and_then_a_step_down(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in ("small", "large"):
        (tmp_path / model).symlink_to(config.parent / model)
    (tmp_path / "behind.toml").write_text(config.read_text())
    behind = GatewayProcess("--config", str(tmp_path / "behind.toml"), log=tmp_path / "behind.log")
    front = None
    try:
        front = front_of(behind.url, tmp_path, monkeypatch)
        with client_of(front) as client:
            stream = client.chat.completions.create(**{**ASK, "max_tokens": 400}, stream=True)
            chunks = [next(stream)]
            behind.signal(signal.SIGKILL)
            with pytest.raises(openai.APIError, match="incomplete"):
                chunks += iter(stream)
            assert all(each.choices[0].finish_reason is None for each in chunks)
            answer = client.chat.completions.create(**ASK)
            assert answer.choices[0].message.content == "Nobody is there."
        assert "sk-end-to-end" not in front.log
    finally:
        behind.end()
        if front is not None:
            front.end()


def test_a_missing_key_is_reported_before_anything_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "front.toml").write_text(CONFIG.format(url="http://127.0.0.1:9"))
    monkeypatch.delenv("BEHIND_KEY", raising=False)
    with pytest.raises(AssertionError, match="environment variable BEHIND_KEY is not set"):
        GatewayProcess("--config", str(tmp_path / "front.toml"), log=tmp_path / "front.log")
