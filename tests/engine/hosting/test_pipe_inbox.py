"""The loop's inbox over a pipe, beside the queue that it stands in for."""

import os
from collections.abc import Iterator
from queue import Empty

import msgspec
import pytest

from engine.core.loop import Stop
from engine.hosting.pipe_inbox import PipeInbox
from engine.hosting.wire import InstallAdapter, ReadAdapter, command_decoder, encode_command
from engine.messages import Abort, AddAdapter, Command, DropAdapter, Embed, Weigh
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


@pytest.mark.parametrize(
    "command",
    [
        Embed(sequence_id=1, token_ids=(5, 6), size=3, second=1),
        Weigh(sequence_id=1, prompt_token_ids=(5, 6), answers=((7,), (8, 9)), cache_salt=b"s", adapter="a"),
    ],
)
def test_commands_without_tokens_to_generate_arrive_as_they_are(pipe: tuple[int, PipeInbox], command: Command) -> None:
    into, inbox = pipe
    os.write(into, encode_command(command))
    assert inbox.get() == command
    os.close(into)


def test_a_closed_pipe_says_stop_for_ever(pipe: tuple[int, PipeInbox]) -> None:
    into, inbox = pipe
    os.write(into, encode_command(Abort(1)))
    os.close(into)
    assert [inbox.get() for _ in range(3)] == [Abort(1), Stop(), Stop()]
    assert not inbox.empty()


def test_what_is_carried_out_when_it_is_decoded_is_no_command() -> None:
    out, into = os.pipe()
    done: list[bytes] = []

    def decode(body: bytes) -> Abort | None:
        done.append(body)
        return Abort(2) if len(done) > 1 else None

    inbox = PipeInbox(out, decode)
    os.write(into, encode_command(ReadAdapter(1, "folder")))
    assert inbox.empty()
    assert len(done) == 1
    os.write(into, encode_command(Abort(2)))
    assert inbox.get() == Abort(2)
    os.close(out)
    os.close(into)


def test_an_adapter_goes_by_the_number_of_its_reading(pipe: tuple[int, PipeInbox]) -> None:
    into, inbox = pipe
    whole = adapter("a", 3)
    numbered = msgspec.structs.replace(whole, prepared=msgspec.structs.replace(whole.prepared, numbers=7))
    os.write(into, encode_command(AddAdapter(numbered)) + encode_command(DropAdapter("a")))
    os.close(into)
    assert [inbox.get(), inbox.get()] == [InstallAdapter("a", 3, "a", 7), DropAdapter("a")]
