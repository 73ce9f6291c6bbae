"""The loop's inbox over a pipe, beside the queue that it stands in for."""

import os
from collections.abc import Iterator
from queue import Empty

import pytest

from engine.core.loop import Stop
from engine.hosting.pipe_inbox import PipeInbox
from engine.hosting.wire import command_decoder, encode_command
from engine.messages import Abort, AddAdapter, DropAdapter
from tests.engine.driving import adapter, submit


@pytest.fixture
def pipe() -> Iterator[tuple[int, PipeInbox]]:
    out, into = os.pipe()
    yield into, PipeInbox(out, command_decoder(lambda _: None))  # type: ignore[arg-type, return-value]
    os.close(out)


def test_commands_come_in_their_order_and_whole(pipe: tuple[int, PipeInbox]) -> None:
    into, inbox = pipe
    assert inbox.empty()
    with pytest.raises(Empty):
        inbox.get_nowait()
    first, second = encode_command(submit(1, [5, 6])), encode_command(Abort(1))
    os.write(into, first[:9])
    assert inbox.empty()
    os.write(into, first[9:] + second)
    assert not inbox.empty()
    assert inbox.get() == submit(1, [5, 6])
    assert inbox.get(timeout=0.001) == Abort(1)
    with pytest.raises(Empty):
        inbox.get(timeout=0.001)
    os.close(into)


def test_a_closed_pipe_says_stop_for_ever(pipe: tuple[int, PipeInbox]) -> None:
    into, inbox = pipe
    os.write(into, encode_command(Abort(1)))
    os.close(into)
    assert [inbox.get() for _ in range(3)] == [Abort(1), Stop(), Stop()]
    assert not inbox.empty()


def test_adapters_do_not_pass() -> None:
    for command in (AddAdapter(adapter("a")), DropAdapter("a")):
        with pytest.raises(TypeError, match="does not pass"):
            encode_command(command)
