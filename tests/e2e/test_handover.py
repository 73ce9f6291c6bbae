"""A new process takes over from one that serves, while clients go on: no connection and no stream is lost."""

import http.client
import json
import signal
import socket
import sqlite3
import threading
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.process import GatewayProcess, until
from tests.e2e.test_process import BODY, begin_stream, rest
from tests.patience import PATIENCE_S

SHORT = json.dumps({**BODY, "stream": False, "max_tokens": 2, "ignore_eos": True}).encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(SHORT)


def ask(port: int) -> str:
    """One request on a connection of its own: its status, or what went wrong."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as sock:
            sock.sendall(HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + SHORT)
            said = rest(sock)
            return said.split(b" ", 2)[1].decode() if said else "closed"
    except OSError as error:
        return type(error).__name__


def whole(connection: http.client.HTTPConnection) -> int:
    connection.request("POST", "/v1/chat/completions", SHORT)
    response = connection.getresponse()
    response.read()
    return response.status


class Clients:
    """Open connections all the time, each after the other."""

    def __init__(self, port: int, count: int) -> None:
        self.found: Counter[str] = Counter()
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.found[ask(self._port)] += 1

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def words(config: Path, tmp_path: Path) -> list[str]:
    return ["--config", str(config), "--handover", str(tmp_path / "handover.sock")]


@pytest.mark.slow  # half a minute; `tests/gateway/test_handover.py` hands over in one process
def test_a_rolling_restart(words: list[str], tmp_path: Path) -> None:
    old = GatewayProcess(*words, log=tmp_path / "old.log")
    new = None
    clients = Clients(old.port, 2)
    try:
        until(lambda: clients.found["200"] > 3)
        stream = begin_stream(old, {**BODY, "max_tokens": 300})
        kept = http.client.HTTPConnection("127.0.0.1", old.port, timeout=PATIENCE_S)
        assert whole(kept) == 200
        until((tmp_path / "handover.sock").exists)
        new = GatewayProcess(*words, log=tmp_path / "new.log")
        assert new.port == old.port
        # A connection from before the hand-over gets its answer.
        assert whole(kept) == 200
        assert rest(stream).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        stream.close()
        kept.close()
        assert old.wait() == 0
        before = clients.found["200"]
        until(lambda: clients.found["200"] > before + 3)
        assert ask(new.port) == "200"
        # And again: the new one hands over, too.
        until(lambda: (tmp_path / "handover.sock").exists() and "handover_off" not in new.log)
        third = GatewayProcess(*words, log=tmp_path / "third.log")
        try:
            assert new.wait() == 0
            before = clients.found["200"]
            until(lambda: clients.found["200"] > before + 3)
            clients.stop()
            third.signal(signal.SIGTERM)
            assert third.wait() == 0
        finally:
            third.end()
    finally:
        clients.stop()
        for process in (old, new):
            if process is not None:
                process.end()
    assert set(clients.found) == {"200"}, clients.found
    books = sqlite3.connect(tmp_path / "ledger.sqlite3")
    outcomes = dict(books.execute("SELECT outcome, count(*) FROM requests GROUP BY 1").fetchall())
    books.close()
    # Each answer is there once: those of the clients, the stream, the kept connection (two) and the one in between.
    assert outcomes == {"ok": clients.found["200"] + 4}


def test_a_new_process_that_dies_changes_nothing(words: list[str], tmp_path: Path) -> None:
    old = GatewayProcess(*words, log=tmp_path / "old.log")
    try:
        until((tmp_path / "handover.sock").exists)
        asks = socket.socket(socket.AF_UNIX)
        asks.connect(str(tmp_path / "handover.sock"))
        greeting, descriptors, _, _ = socket.recv_fds(asks, 256, 8)
        assert greeting == b"penstock handover 1:api lock\n"
        for descriptor in descriptors:
            socket.close(descriptor)
        asks.close()
        until(lambda: "handover_failed" in old.log)
        assert ask(old.port) == "200"
        old.signal(signal.SIGTERM)
        assert old.wait() == 0
    finally:
        old.end()
