"""An upstream that says what a test wants, and remembers what it was asked: behind a real gateway."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.patience import PATIENCE_S


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "scripted", "choices": [
        {"index": 0, "delta": delta, "finish_reason": finish}
    ]}  # fmt: skip


USAGE = {**chunk({}), "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}}


class ScriptedUpstream:
    """Set `deltas` before a request; with `endless` it goes on until its client leaves."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.deltas: list[dict[str, Any]] = []
        self.finish = "stop"
        self.endless = False
        self.left = threading.Event()
        """A client has left an endless answer."""
        self.url = ""

    def says(self, *deltas: dict[str, Any], finish: str = "stop", endless: bool = False) -> None:
        self.deltas, self.finish, self.endless = list(deltas), finish, endless

    def answer(self, asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
        self.asked.append(asked)
        yield chunk({"role": "assistant", "content": ""})
        for delta in self.deltas:
            yield chunk(delta)
        while self.endless:
            # A pause that ends at once when a client has left.
            self.left.wait(0.02)
            yield chunk({"content": "word "})
        yield chunk({}, self.finish)
        yield USAGE


@contextmanager
def scripted_upstream() -> Iterator[ScriptedUpstream]:
    script = ScriptedUpstream()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            try:
                for each in script.answer(asked):
                    self.wfile.write(f"data: {json.dumps(each)}\n\n".encode())
                self.wfile.write(b"data: [DONE]\n\n")
            except OSError:
                script.left.set()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield script
    finally:
        script.endless = False
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE_S)
