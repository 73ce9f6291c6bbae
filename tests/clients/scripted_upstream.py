"""A model server that calls tools and reasons on purpose, as the embedded models are too small to."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.actors.upstream.dialects import delta, end, part, parts, sse, usage

THOUGHT = "They ask something."


@contextmanager
def scripted_upstream() -> Iterator[str]:
    """Its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def events_of(body: dict[str, Any]) -> list[Any]:
    """The answer to one request for a chat completion.

    A question with tools is answered by a call of the chosen one, or else of the first. The tool's result is repeated,
    a form is filled in, anything else gets an echo. The model `thinks` reasons before.
    """
    last, tools, choice = body["messages"][-1], body.get("tools"), body.get("tool_choice", "auto")
    begin = [delta("", role="assistant")]
    if body["model"] == "thinks":
        begin.append(delta(reasoning_content=THOUGHT))
    if tools and choice != "none" and last["role"] == "user":
        wanted = choice["function"]["name"] if isinstance(choice, dict) else tools[0]["function"]["name"]
        [tool] = [each["function"] for each in tools if each["function"]["name"] == wanted]
        arguments = json.dumps(sample(tool.get("parameters") or {"type": "object"}))
        begin.append(parts(part(0, f"call_{len(body['messages'])}", name=wanted, arguments=arguments)))
        return [*begin, end("tool_calls"), usage(20, 10)]
    form = body.get("response_format") or {}
    if form.get("type") == "json_schema":
        text = json.dumps(sample(form["json_schema"]["schema"]))
    elif last["role"] == "tool":
        text = f"The tool said: {text_of(last)}"
    else:
        text = f"You said: {text_of(last)}"
    return [*begin, *[delta(word) for word in text.split(" ") for word in (word, " ")][:-1], end(), usage(20, 10)]


def text_of(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(each.get("text", "") for each in content)


def sample(schema: dict[str, Any]) -> Any:
    """A value of the schema's type, for the plain schemas that clients make of functions."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type", "object"):
        case "object":
            return {name: sample(each) for name, each in schema.get("properties", {}).items()}
        case "array":
            return [sample(schema["items"])]
        case "integer" | "number":
            return 17
        case "boolean":
            return True
        case _:
            return "Paris"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        data = sse(*events_of(body))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass
