"""Hand-overs between two sides in one process: what is passed, and what happens when one of them ends or is silent."""

import os
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from gateway.errors import CliError
from gateway.handover import Takeover, offer, passed_by_systemd, take_over
from gateway.http.server import listen
from tests.patience import PATIENCE_S


class Old:
    """The process that serves now."""

    def __init__(self) -> None:
        self.listener = listen("127.0.0.1", 0)
        self.port = self.listener.getsockname()[1]
        self.gave_up = trio.Event()
        self.handed_over = trio.Event()

    async def give_up(self) -> None:
        self.gave_up.set()


@asynccontextmanager
async def old(path: Path) -> AsyncIterator[Old]:
    side = Old()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(offer, path, {"api": side.listener.fileno()}, side.give_up, side.handed_over)
            while not path.exists():  # noqa: ASYNC110, ASYNC240
                await trio.sleep(0.001)
            yield side
            nursery.cancel_scope.cancel()
    side.listener.close()


async def taken(path: Path) -> Takeover:
    found = await trio.to_thread.run_sync(take_over, path)
    assert found is not None
    return found


async def test_the_new_process_accepts_from_the_same_queue(tmp_path: Path) -> None:
    path = tmp_path / "handover"
    async with old(path) as side:
        new = await taken(path)
        port = side.listener.getsockname()[1]
        listener = new.listener("api", "127.0.0.1", port)
        assert listener is not None
        assert (new.listener("admin", "127.0.0.1", 0), new.lock()) == (None, None)
        waiting = socket.create_connection(("127.0.0.1", port))
        side.listener.close()
        accepted, _ = listener.accept()
        assert accepted.getpeername() == waiting.getsockname()
        assert not side.gave_up.is_set()
        new.ready()
        assert await trio.to_thread.run_sync(new.wait_for_go)
        assert side.gave_up.is_set()
        await side.handed_over.wait()
        for each in (waiting, accepted, listener, new):
            each.close()


@pytest.mark.parametrize(
    ("host", "further", "is_taken"),
    [
        ("localhost", 0, True),
        ("127.0.0.1", 1, False),
        ("127.0.0.2", 0, False),
        ("0.0.0.0", 0, False),
        ("::1", 0, False),
    ],
)
async def test_a_listener_on_another_address_is_not_taken(
    tmp_path: Path, host: str, further: int, *, is_taken: bool
) -> None:
    async with old(tmp_path / "handover") as side:
        new = await taken(tmp_path / "handover")
        found = new.listener("api", host, side.port + further)
        assert (found is not None) is is_taken
        if found is not None:
            found.close()
        new.close()


async def test_what_the_new_process_has_no_use_for_is_closed(tmp_path: Path) -> None:
    async with old(tmp_path / "handover") as side:
        new = await taken(tmp_path / "handover")
        new.close()
        side.listener.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", side.port))


async def test_a_successor_that_ends_before_it_is_ready_changes_nothing(tmp_path: Path) -> None:
    async with old(tmp_path / "handover") as side:
        first = await taken(tmp_path / "handover")
        first.close()
        second = await taken(tmp_path / "handover")
        assert not side.gave_up.is_set()
        second.ready()
        await side.handed_over.wait()
        second.close()


async def test_a_successor_that_dies_when_the_old_process_has_given_up_lets_it_end(tmp_path: Path) -> None:
    async with old(tmp_path / "handover") as side:
        new = await taken(tmp_path / "handover")
        new.ready()
        new.close()
        await side.handed_over.wait()
        assert side.gave_up.is_set()


def test_the_old_process_ends_before_it_says_go() -> None:
    mine, other = socket.socketpair()
    new = Takeover(mine, {})
    other.close()
    assert not new.wait_for_go()
    new.ready()
    new.close()


def test_an_old_process_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = socket.socketpair()
    monkeypatch.setattr("gateway.handover._GO_S", 0)
    with pytest.raises(OSError, match="it serves on"):
        Takeover(mine, {}).wait_for_go()
    mine.close()
    other.close()


def test_where_nobody_serves(tmp_path: Path) -> None:
    assert take_over(tmp_path / "none") is None
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "stale"))
    stale.close()
    assert take_over(tmp_path / "stale") is None


async def test_another_file_is_not_replaced(tmp_path: Path) -> None:
    file = tmp_path / "penstock.toml"
    file.write_text("text")
    with pytest.raises(CliError, match="is not a Unix socket, and is not replaced"):
        take_over(file)
    await offer(file, {}, trio.lowlevel.checkpoint, trio.Event())
    assert file.read_text() == "text"


def test_what_is_no_gateway(tmp_path: Path) -> None:
    other = socket.socket(socket.AF_UNIX)
    other.bind(str(tmp_path / "other"))
    other.listen()

    def answer() -> None:
        connection, _ = other.accept()
        connection.sendall(b"hello")
        connection.close()

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(CliError, match="no gateway hands over here"):
        take_over(tmp_path / "other")
    thread.join()
    other.close()


async def test_a_folder_that_is_missing_costs_the_hand_over_only(tmp_path: Path) -> None:
    await offer(tmp_path / "none" / "handover", {}, trio.lowlevel.checkpoint, trio.Event())


def test_a_socket_that_is_not_for_tcp_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "api"))
        unix.listen()
        monkeypatch.setattr("gateway.handover._FIRST_PASSED", os.dup(unix.fileno()))
        monkeypatch.setenv("LISTEN_FDS", "1")
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        with pytest.raises(CliError, match="not for TCP"):
            passed_by_systemd()


def test_systemd_s_sockets_are_for_this_process_only(monkeypatch: pytest.MonkeyPatch) -> None:
    first = listen("127.0.0.1", 0)
    monkeypatch.setattr("gateway.handover._FIRST_PASSED", first.fileno())
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", "1")
    assert passed_by_systemd() == {}
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    port = first.getsockname()[1]
    first.detach()
    found = passed_by_systemd()
    assert [(name, each.getsockname()[1]) for name, each in found.items()] == [("api", port)]
    found["api"].close()
