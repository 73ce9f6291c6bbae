"""What the process of a run and those of its workers say to each other: MessagePack, the length before each message."""

import struct
from collections.abc import Iterator

import msgspec

from config.model.units import encodable
from loadtests.running.progress import WorkerProgress
from loadtests.running.tally import WorkerTally
from loadtests.running.worker import WorkerShare

_LENGTH = struct.Struct("!I")
_LONGEST = 1 << 30


class BeginRun(msgspec.Struct, frozen=True, tag=True):
    """To a worker: wait for this time of `time.perf_counter`, then begin."""

    begun_s: float


class StopRun(msgspec.Struct, frozen=True, tag=True):
    """To a worker: end now, and send what was measured."""


class WorkerReady(msgspec.Struct, frozen=True, tag=True):
    """From a worker: it waits for `BeginRun`."""


class WorkerTold(msgspec.Struct, frozen=True, tag=True):
    """From a worker, while it runs."""

    progress: WorkerProgress


class WorkerDone(msgspec.Struct, frozen=True, tag=True):
    """From a worker, at its end."""

    tally: WorkerTally


ToWorker = BeginRun | StopRun
FromWorker = WorkerReady | WorkerTold | WorkerDone


def packed(message: WorkerShare | ToWorker | FromWorker) -> bytes:
    """A message as bytes."""
    data = msgspec.msgpack.encode(message, enc_hook=encodable)
    return _LENGTH.pack(len(data)) + data


class Unpacker:
    """Cuts bytes into messages."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete with these bytes."""
        self._rest += data
        while len(self._rest) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._rest)
            if length > _LONGEST:
                raise ValueError("a message is too long")
            end = _LENGTH.size + length
            if len(self._rest) < end:
                return
            message = bytes(self._rest[_LENGTH.size : end])
            del self._rest[:end]
            yield message


def decode_share(raw: bytes) -> WorkerShare:
    """The first message to a worker."""
    return msgspec.msgpack.decode(raw, type=WorkerShare, dec_hook=lambda kind, value: kind(value))


def decode_to_worker(raw: bytes) -> ToWorker:
    """A later one."""
    return msgspec.msgpack.decode(raw, type=ToWorker)  # type: ignore[no-any-return]  # a union is no type to mypy


def decode_from_worker(raw: bytes) -> FromWorker:
    """A message from a worker."""
    return msgspec.msgpack.decode(raw, type=FromWorker)  # type: ignore[no-any-return]  # a union is no type to mypy
