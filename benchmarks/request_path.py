"""Which of our files one streamed chat request over HTTP enters: python -m benchmarks.request_path.

The whole service with an engine, whose runner is a fake one, answers two requests on the loopback in this process. The
first one warms up; of the second one every function that is called, in whichever thread, is looked at. A file counts if
one of its functions was called; those that only hold types do not, and neither does what serves no request.
"""

import argparse
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import structlog
import trio

from actors.service import Service
from benchmarks.gateway.service import CONFIG
from config.load import parse_settings
from config.model.settings import EngineSettings
from engine.core.engine import Engine
from engine.testing.fake_runner import FakeRunner
from engine.text.tokenizer import Tokenizer
from engine.zoo.tokenizer import save_tokenizer, train_tokenizer
from gateway.endpoints.api_context import ApiContext
from gateway.endpoints.routes import Routes
from gateway.http.bounds.limits import ServerLimits
from gateway.http.server import Server, listen

_ROOT = Path(__file__).parent.parent
_PACKAGES = ("gateway", "actors", "policies", "config", "engine")
_BODY = b'{"model":"bench","messages":[{"role":"user","content":"What is 17 + 25?"}],"max_tokens":8,"stream":true}'


class Watcher:
    """Files of the product by the calls into them, while it is on."""

    def __init__(self) -> None:
        self.on = False
        self.calls: Counter[str] = Counter()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if self.on and event == "call":
            self.calls[frame.f_code.co_filename] += 1

    def files(self) -> list[tuple[str, int]]:
        """By package, in the order above."""
        found = []
        for name, calls in self.calls.items():
            path = Path(name)
            if path.is_relative_to(_ROOT) and (relative := path.relative_to(_ROOT)).parts[0] in _PACKAGES:
                found.append((str(relative), calls))
        return sorted(found, key=lambda each: (_PACKAGES.index(each[0].partition("/")[0]), each[0]))


def _service(folder: Path) -> Service:
    model = folder / "model"
    model.mkdir()
    save_tokenizer(train_tokenizer(), model, 1 << 20)
    (model / "config.json").write_text('{"eos_token_id": 2}')
    tokenizer = Tokenizer.load(model)

    def make(_: Any) -> Engine:
        return Engine(FakeRunner(vocab_size=4096), tokenizer, EngineSettings(model=model), seed=1)

    return Service(parse_settings(CONFIG, folder / "bench.toml"), {"bench": [make]})


async def _ask(port: int) -> bytes:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        await stream.send_all(head + b"content-length: %d\r\n\r\n%b" % (len(_BODY), _BODY))
        answer = b""
        while not answer.endswith(b"\r\n0\r\n\r\n"):
            data = await stream.receive_some()
            if not data:
                raise SystemExit(f"the answer broke off: {answer!r}")
            answer += data
    if b"data: [DONE]" not in answer:
        raise SystemExit(f"no answer: {answer!r}")
    return answer


async def _main(watcher: Watcher, folder: Path) -> None:
    service = _service(folder)
    limits = ServerLimits(heartbeat_s=3600)
    routes = Routes(ApiContext(service=service, max_choices=16, max_inputs=16), limits, frozenset())
    server = Server(listen("127.0.0.1", 0), limits, routes)
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        await nursery.start(server.run)
        while not service.readiness().ready:  # noqa: ASYNC110  (as any health probe asks)
            await trio.sleep(0.01)
        await _ask(server.port)
        watcher.on = True
        await _ask(server.port)
        watcher.on = False
        nursery.cancel_scope.cancel()


def main() -> None:
    """Print the files and how many there are."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    # Lines of requests are no figures.
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    watcher = Watcher()
    # Threads that begin later are watched, too.
    threading.setprofile(watcher)
    sys.setprofile(watcher)
    try:
        with tempfile.TemporaryDirectory() as folder:
            trio.run(_main, watcher, Path(folder))
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    files = watcher.files()
    for name, calls in files:
        print(f"{calls:6} {name}")
    by_package = Counter(name.partition("/")[0] for name, _ in files)
    print(f"{len(files)} files: " + ", ".join(f"{by_package[package]} of {package}" for package in _PACKAGES))


if __name__ == "__main__":
    main()
