"""A server in a thread of its own, for commands that run an event loop themselves."""

import http.server
import json
import threading
from typing import Self

from tests.loadtests.scripted_server import event, events, usage


class ThreadedServer:
    """`asked` has the requests; `wrong`: its streams do not end as they should."""

    def __init__(self) -> None:
        self.asked: list[dict[str, object]] = []
        self.wrong = False
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.asked.append({"headers": headers, "body": body})
                if body.get("stream"):
                    what = events()[:-1] if outer.wrong else events()
                    kind, data = "text/event-stream", b"".join(map(event, what))
                else:
                    choice = {"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}
                    kind = "application/json"
                    data = json.dumps({"choices": [choice], "usage": usage(1)["usage"]}).encode()
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *words: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
