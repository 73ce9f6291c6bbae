"""What an upstream refuses, as the official client sees it: a whole gateway, real sockets, its own retries."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.process import GatewayProcess
from tests.patience import PATIENCE_S

CONFIG = """
schema = 1
[ledger]
path = "ledger.sqlite3"
[upstreams.dead]
urls = ["http://127.0.0.1:9/v1"]
[upstreams.cloud]
urls = ["{url}/v1"]
key = {{ env = "CLOUD_KEY" }}
[models.alone]
[models.behind]
[[routes]]
name = "behind"
when = {{ model = ["behind"] }}
use = {{ ladder = "behind" }}
[[routes]]
name = "alone"
use = {{ ladder = "alone" }}
[[ladders.alone]]
to = "cloud"
retries = 1
[[ladders.behind]]
to = "dead"
[[ladders.behind]]
to = "cloud"
"""
BAD = {"error": {"code": 400, "type": "BadRequestError", "param": "stop", "message": "stop is bad; sk-end-to-end"}}
FILTERED = {"error": {"code": "content_filter", "message": "Filtered."}}
KEY = {"error": {"code": "invalid_api_key", "message": "Incorrect API key: sk-end-to-end"}}


class Upstream(ThreadingHTTPServer):
    """Says what it was told to say, and counts."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body: Any = None
        """None: it answers."""
        self.calls = 0


class _Handler(BaseHTTPRequestHandler):
    server: Upstream

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        server = self.server
        server.calls += 1
        self.send_response(server.status)
        for name, value in server.headers.items():
            self.send_header(name, value)
        chunk = {"choices": [{"index": 0, "delta": {"content": "well"}, "finish_reason": "stop"}]}
        data = json.dumps(server.body if server.body is not None else chunk).encode()
        if server.status == 200:
            self.send_header("content-type", "text/event-stream")
            data = b"data: %b\n\ndata: [DONE]\n\n" % data
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def front(upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GatewayProcess]:
    (tmp_path / "front.toml").write_text(CONFIG.format(url=f"http://127.0.0.1:{upstream.server_port}"))
    monkeypatch.setenv("CLOUD_KEY", "sk-end-to-end")
    process = GatewayProcess("--config", str(tmp_path / "front.toml"), log=tmp_path / "front.log")
    yield process
    process.end()
    assert "sk-end-to-end" not in (tmp_path / "front.log").read_text()


CASES = [
    # What it says, and what the client gets: with two retries of its own, after so many calls of the upstream.
    (200, {}, BAD, openai.BadRequestError, "upstream_rejected", "BadRequestError", 1),
    (400, {}, BAD, openai.BadRequestError, "upstream_rejected", "BadRequestError", 1),
    (200, {}, FILTERED, openai.BadRequestError, "content_filter", "content_filter", 1),
    (400, {}, FILTERED, openai.BadRequestError, "content_filter", "content_filter", 1),
    (429, {"retry-after": "300"}, {}, openai.RateLimitError, "upstream_busy", None, 1),
    (401, {}, KEY, openai.InternalServerError, "no_rung_available", None, 1),
]


def test_refusals_as_the_official_client_sees_them(front: GatewayProcess, upstream: Upstream) -> None:
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key="none", max_retries=2) as client:
        messages: Any = [{"role": "user", "content": "Hi"}]
        # The last two leave the upstream alone for a while, and come last.
        for status, headers, body, error, code, upstream_code, calls in CASES[:4]:
            for model in ("alone", "behind"):
                for streamed in (True, False):
                    upstream.status, upstream.headers, upstream.body, upstream.calls = status, headers, body, 0
                    with pytest.raises(error) as caught:
                        client.chat.completions.create(model=model, messages=messages, stream=streamed)
                    told = caught.value
                    assert (told.code, upstream.calls) == (code, calls), (status, body, model, streamed)
                    assert told.response.headers["x-should-retry"] == "false"
                    assert told.body["upstream_code"] == upstream_code
                    assert "sk-end-to-end" not in told.message
                    if body is BAD:
                        assert (told.param, told.type) == ("stop", "invalid_request_error")
                        assert "stop is bad" in told.message
        # So many bad requests later its breaker is closed.
        upstream.status, upstream.body = 200, None
        answer = client.chat.completions.create(model="alone", messages=messages)
        assert answer.choices[0].message.content == "well"
        for status, headers, body, error, code, _, calls in reversed(CASES[4:]):
            upstream.status, upstream.headers, upstream.body, upstream.calls = status, headers, body, 0
            with pytest.raises(error) as caught:
                client.chat.completions.create(model="alone", messages=messages)
            assert (caught.value.code, upstream.calls) == (code, calls)
            assert caught.value.response.headers["x-should-retry"] == "false"
        assert 290 <= int(caught.value.response.headers["retry-after"]) <= 300
    metrics = httpx.get(f"{front.url}/metrics", timeout=PATIENCE_S).text
    assert 'penstock:upstream_failures_total{kind="upstream_rejected",upstream="cloud"}' in metrics.replace(
        'upstream="cloud",kind="upstream_rejected"', 'kind="upstream_rejected",upstream="cloud"'
    )
    assert "stop is bad" in front.log
