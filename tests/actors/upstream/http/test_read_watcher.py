"""Many sockets behind one wait, by epoll and by the selectors of other systems."""

import select
import socket

import pytest
import trio
import trio.testing

from actors.upstream.http.read_watcher import ReadWatcher
from tests.patience import PATIENCE_S


@pytest.fixture(params=["epoll", "any selector"])
def watcher(request, monkeypatch):
    with monkeypatch.context() as patched:
        if request.param != "epoll":
            patched.delattr(select, "epoll", raising=False)
        made = ReadWatcher()
    yield made
    made.close()


async def test_sockets_that_are_readable_are_called_until_they_are_removed(watcher) -> None:
    pairs = [socket.socketpair() for _ in range(100)]  # more than are read at once
    read: list[int] = []
    all_read = trio.Event()

    def reading(place: int):
        def on_readable() -> None:
            pairs[place][0].recv(10)
            read.append(place)
            watcher.remove(pairs[place][0])
            if len(read) == len(pairs):
                all_read.set()

        return on_readable

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watcher.run)
            for place, (here, there) in enumerate(pairs):
                watcher.add(here, reading(place))
                there.send(b"x")
            await all_read.wait()
            pairs[0][1].send(b"x")
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert sorted(read) == list(range(len(pairs)))
    for pair in pairs:
        for each in pair:
            each.close()


async def test_one_that_another_removes_is_not_called(watcher) -> None:
    (first, a), (second, b) = socket.socketpair(), socket.socketpair()
    called = []
    done = trio.Event()

    def on_readable() -> None:
        called.append(1)
        watcher.remove(first)
        watcher.remove(second)
        done.set()

    watcher.add(first, on_readable)
    watcher.add(second, on_readable)
    a.send(b"x")
    b.send(b"x")
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watcher.run)
            await done.wait()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert called == [1]
    for each in (first, a, second, b):
        each.close()
