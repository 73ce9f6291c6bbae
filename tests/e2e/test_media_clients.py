"""Images, files and cached prefixes by the official clients: what two scripted upstreams receive, byte by byte."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anthropic
import openai
import pytest

from tests.e2e.process import GatewayProcess
from tests.media import PDF, PNG, WAV, data_url, encoded

CONFIG = """
schema = 1
[ledger]
path = "ledger.sqlite3"
[upstreams.cloud]
urls = ["{first}/v1", "{second}/v1"]
model = "cloud-1"
supports = ["vision", "audio", "files", "cache_control"]
[upstreams.blind]
urls = ["{first}/blind/v1"]
[models.any]
[models.blind]
[[routes]]
name = "blind"
when = {{ model = ["blind"] }}
use = {{ ladder = "blind" }}
[[routes]]
name = "all"
use = {{ ladder = "cloud" }}
[[ladders.cloud]]
to = "cloud"
[[ladders.blind]]
to = "blind"
"""
MARK = {"type": "ephemeral"}
LONG = "Once upon a time there was a fox. " * 60
USAGE = {"prompt_tokens": 900, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 640}}


class Upstream(ThreadingHTTPServer):
    """Answers everything, and keeps the bodies as they came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []


class _Handler(BaseHTTPRequestHandler):
    server: Upstream

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        chunks = [
            {"choices": [{"index": 0, "delta": {"content": "A fox."}, "finish_reason": "stop"}]},
            {"choices": [], "usage": USAGE},
        ]
        data = b"".join([b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks]) + b"data: [DONE]\n\n"
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def upstreams() -> Iterator[tuple[Upstream, Upstream]]:
    with Upstream() as first, Upstream() as second:
        threads = [
            threading.Thread(target=each.serve_forever, kwargs={"poll_interval": 0.01}) for each in (first, second)
        ]
        for thread in threads:
            thread.start()
        yield first, second
        for each, thread in zip((first, second), threads, strict=True):
            each.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def front(upstreams: tuple[Upstream, Upstream], tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("front")
    first, second = (f"http://127.0.0.1:{each.server_port}" for each in upstreams)
    (folder / "front.toml").write_text(CONFIG.format(first=first, second=second))
    process = GatewayProcess("--config", str(folder / "front.toml"), log=folder / "front.log")
    yield process
    process.end()
    log = (folder / "front.log").read_text()
    assert encoded(PNG) not in log
    assert "a.example" not in log


@pytest.fixture
def chat(front: GatewayProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture
def messages(front: GatewayProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=front.url, api_key="none", max_retries=0) as made:
        yield made


def received(upstreams: tuple[Upstream, Upstream]) -> bytes:
    """The one body that has come since this was called last."""
    bodies = [body for each in upstreams for body in each.bodies]
    for each in upstreams:
        each.bodies.clear()
    (body,) = bodies
    return body


def content(upstreams: tuple[Upstream, Upstream], message: int = 0) -> Any:
    return json.loads(received(upstreams))["messages"][message]["content"]


IMAGE = {"type": "image_url", "image_url": {"url": data_url(PNG), "detail": "low"}}
LINK = {"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}
SOUND = {"type": "input_audio", "input_audio": {"data": encoded(WAV), "format": "wav"}}
FILE = {"type": "file", "file": {"filename": "a.pdf", "file_data": data_url(PDF, "application/pdf")}}
LOOK = {"type": "text", "text": "Look:", "cache_control": MARK}


def test_chat_sends_what_it_was_given(chat: openai.OpenAI, upstreams: tuple[Upstream, Upstream]) -> None:
    parts: Any = [LOOK, IMAGE, LINK, SOUND, FILE]
    answer = chat.chat.completions.create(
        model="any", messages=[{"role": "user", "content": parts}], extra_body={"prompt_cache_key": "mine"}
    )
    assert answer.choices[0].message.content == "A fox."
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 640
    body = received(upstreams)
    assert json.dumps(parts, separators=(",", ":")).encode() in body
    assert json.loads(body)["prompt_cache_key"] == "mine"


def test_responses_send_the_same(chat: openai.OpenAI, upstreams: tuple[Upstream, Upstream]) -> None:
    parts: Any = [
        {"type": "input_text", "text": "Look:"},
        {"type": "input_image", "image_url": data_url(PNG), "detail": "low"},
        {"type": "input_image", "image_url": "https://a.example/x.png", "detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": data_url(PDF, "application/pdf")},
    ]
    first = chat.responses.create(model="any", input=[{"role": "user", "content": parts}])
    assert first.output_text == "A fox."
    assert first.usage is not None
    assert first.usage.input_tokens_details.cached_tokens == 640
    link = {**LINK, "image_url": {**LINK["image_url"], "detail": "auto"}}
    sent = content(upstreams)
    assert sent == [{"type": "text", "text": "Look:"}, IMAGE, link, FILE]
    # The next turn has them from the store.
    chat.responses.create(model="any", input="And?", previous_response_id=first.id)
    assert content(upstreams) == sent
    items = chat.responses.input_items.list(first.id)
    assert items.data[0].content[1].image_url == data_url(PNG)


def test_messages_send_the_same(messages: anthropic.Anthropic, upstreams: tuple[Upstream, Upstream]) -> None:
    blocks: Any = [
        {"type": "text", "text": "Look:", "cache_control": MARK},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": encoded(PNG)}},
        {"type": "image", "source": {"type": "url", "url": "https://a.example/x.png"}},
        {
            "type": "document",
            "title": "a.pdf",
            "source": {"type": "base64", "media_type": "application/pdf", "data": encoded(PDF)},
        },
    ]
    asked: Any = {"model": "any", "max_tokens": 9, "messages": [{"role": "user", "content": blocks}]}
    image = {"type": "image_url", "image_url": {"url": data_url(PNG)}}
    answer = messages.messages.create(**asked)
    assert content(upstreams) == [LOOK, image, LINK, FILE]
    with messages.messages.stream(**asked) as stream:
        streamed = stream.get_final_message()
    received(upstreams)
    for each in (answer, streamed):
        assert each.content[0].text == "A fox."
        assert (each.usage.cache_read_input_tokens, each.usage.input_tokens) == (640, 260)


def test_a_tools_result_may_show_something(messages: anthropic.Anthropic, upstreams: tuple[Upstream, Upstream]) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": encoded(PNG)}
    turns: Any = [
        {"role": "user", "content": "Look"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "look", "input": {}}]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "image", "source": source}]}],
        },
    ]
    messages.messages.create(model="any", max_tokens=9, messages=turns)
    assert content(upstreams, 2) == [{"type": "image_url", "image_url": {"url": data_url(PNG)}}]


WRONG: list[tuple[Any, str, str]] = [
    ({"type": "image_url", "image_url": {"url": data_url(PDF)}}, "image_url.url", "must contain an image"),
    ({"type": "image_url", "image_url": {"url": "ftp://a.example/x"}}, "image_url.url", "must begin with http"),
    ({"type": "file", "file": {"file_id": "file-1"}}, "file.file_id", "stores no files"),
]


@pytest.mark.parametrize(("part", "field", "why"), WRONG)
def test_the_client_reads_which_field_is_wrong(chat: openai.OpenAI, part: Any, field: str, why: str) -> None:
    turns: Any = [{"role": "system", "content": "x"}, {"role": "user", "content": [LOOK, part]}]
    with pytest.raises(openai.BadRequestError, match=why) as refused:
        chat.chat.completions.create(model="any", messages=turns)
    assert refused.value.param == f"messages[1].content[1].{field}"


def test_a_model_without_eyes_names_one_that_has_them(chat: openai.OpenAI, messages: anthropic.Anthropic) -> None:
    with pytest.raises(openai.BadRequestError, match="These models take them: any") as refused:
        chat.chat.completions.create(model="blind", messages=[{"role": "user", "content": [LINK]}])  # type: ignore[list-item]
    assert (refused.value.code, refused.value.param) == ("media_not_supported", "messages[0].content[0].image_url.url")
    source: Any = {"type": "url", "url": "https://a.example/x.png"}
    with pytest.raises(anthropic.BadRequestError, match="takes no images"):
        messages.messages.create(
            model="blind", max_tokens=9, messages=[{"role": "user", "content": [{"type": "image", "source": source}]}]
        )


def test_a_conversation_comes_back_to_its_address(chat: openai.OpenAI, upstreams: tuple[Upstream, Upstream]) -> None:
    for name in ("one", "two", "three", "four"):
        turns: Any = [{"role": "user", "content": f"{name}: {LONG}"}]
        for _ in range(3):
            answer = chat.chat.completions.create(model="any", messages=turns)
            turns += [answer.choices[0].message.model_dump(exclude_none=True), {"role": "user", "content": "And?"}]
        counts = sorted([len(each.bodies) for each in upstreams])
        assert counts == [0, 3], "all three turns went to one address"
        for each in upstreams:
            each.bodies.clear()
