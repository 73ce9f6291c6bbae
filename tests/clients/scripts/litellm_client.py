"""LiteLLM, as a client of three APIs, as a proxy in front of the gateway, and as a server that the gateway asks."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import litellm
import openai

from tests.clients.scripts.features import KEY, URL, run

PORT = os.environ["PENSTOCK_PROXY_PORT"]
QUESTION: Any = [{"role": "user", "content": "What is 17 + 25?"}]
CHAT: dict[str, Any] = {"model": "openai/large", "api_base": f"{URL}/v1", "api_key": KEY, "max_retries": 0}
MESSAGES: dict[str, Any] = {"model": "anthropic/large", "api_base": URL, "api_key": KEY, "max_tokens": 20}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}
PROXY = {
    "general_settings": {"dangerously_permit_weak_or_unset_master_key": True},
    "model_list": [
        {
            "model_name": "small",
            "litellm_params": {"model": "openai/small", "api_base": f"{URL}/v1", "api_key": KEY},
        }
    ],
}


def chat() -> None:
    assert litellm.completion(**CHAT, messages=QUESTION, max_tokens=20).choices[0].message.content
    chunks = list(litellm.completion(**CHAT, messages=QUESTION, max_tokens=20, stream=True))
    assert "".join(each.choices[0].delta.content or "" for each in chunks)


def chat_tools() -> None:
    asked: dict[str, Any] = {**CHAT, "model": "openai/tools", "tools": [TOOL]}
    message = litellm.completion(**asked, messages=QUESTION).choices[0].message
    [call] = message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    final = litellm.completion(**asked, messages=[*QUESTION, message, result])
    assert final.choices[0].message.content == "The tool said: sunny"


def reasoning() -> None:
    made = litellm.completion(**{**CHAT, "model": "openai/thinks"}, messages=QUESTION)
    assert made.choices[0].message.reasoning_content == "They ask something."


def responses() -> None:
    asked = {**CHAT, "input": "What is 17 + 25?", "max_output_tokens": 20}
    assert litellm.responses(**asked).output[0].content[0].text
    kinds = [event.type for event in litellm.responses(**asked, stream=True)]
    assert kinds[-1] in {"response.completed", "response.incomplete"}


def messages() -> None:
    assert litellm.completion(**MESSAGES, messages=QUESTION).choices[0].message.content
    chunks = list(litellm.completion(**MESSAGES, messages=QUESTION, stream=True))
    assert "".join(each.choices[0].delta.content or "" for each in chunks)
    [call] = (
        litellm.completion(**{**MESSAGES, "model": "anthropic/tools"}, messages=QUESTION, tools=[TOOL])
        .choices[0]
        .message.tool_calls
    )
    assert json.loads(call.function.arguments) == {"city": "Paris"}


def embeddings() -> None:
    made = litellm.embedding(**{**CHAT, "model": "openai/mini"}, input=["hello"])
    assert made.data[0]["embedding"]


@contextmanager
def proxy() -> Iterator[str]:
    """LiteLLM's own server, with the gateway behind it."""
    with TemporaryDirectory() as folder:
        config = Path(folder) / "config.json"
        config.write_text(json.dumps(PROXY))
        command = Path(sys.executable).with_name("litellm")
        words = [str(command), "--config", str(config), "--host", "127.0.0.1", "--port", PORT]
        server = subprocess.Popen(words, stdout=sys.stderr)
        try:
            until_it_answers(server, f"http://127.0.0.1:{PORT}/health/liveliness")
            yield f"http://127.0.0.1:{PORT}"
        finally:
            server.terminate()
            server.wait()


def until_it_answers(server: "subprocess.Popen[bytes]", url: str) -> None:
    while True:
        try:
            with urllib.request.urlopen(url):
                return
        except OSError:
            if server.poll() is not None:
                raise
            time.sleep(0.5)


def in_front() -> None:
    with proxy() as url, openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        asked: dict[str, Any] = {"model": "small", "messages": QUESTION, "max_tokens": 20}
        assert client.chat.completions.create(**asked).choices[0].message.content
        assert "".join(
            each.choices[0].delta.content or "" for each in client.chat.completions.create(**asked, stream=True)
        )
        assert client.responses.create(model="small", input="What is 17 + 25?", max_output_tokens=20).output_text


def behind() -> None:
    with proxy(), openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0) as client:
        asked: dict[str, Any] = {"model": "proxied", "messages": QUESTION, "max_tokens": 20}
        raw = client.chat.completions.with_raw_response.create(**asked)
        assert raw.headers["x-penstock-rung"] == "proxied"
        assert raw.parse().choices[0].message.content


if __name__ == "__main__":
    run(
        {
            "chat, whole and streamed": chat,
            "chat, a loop with a tool": chat_tools,
            "chat, reasoning": reasoning,
            "responses, whole and streamed": responses,
            "messages, whole, streamed and with a tool": messages,
            "embeddings": embeddings,
            "its proxy in front of Penstock": in_front,
            "its proxy behind Penstock, as an upstream": behind,
        }
    )
