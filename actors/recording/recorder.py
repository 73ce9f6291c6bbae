"""Writes a recording of the traffic, for `penstock policy simulate`: arrivals, features and lengths, never a text.

A line is written when its request has ended. If the disk is too slow, lines are dropped and counted; no request waits
for them.
"""

import secrets
from collections.abc import Iterable
from functools import partial
from hashlib import blake2b
from io import FileIO
from pathlib import Path
from typing import ClassVar

import msgspec
import structlog
import trio

from actors.kernel.actor import Actor, Mailbox
from actors.kernel.errors import MailboxFull
from actors.kernel.thread_bridge import WorkerPool
from engine.scheduling.block_chain import chain_next, chain_root
from policies.model.features import Features, described_requirements
from policies.records.trace import TraceHead, TraceRequest

PREFIX_BLOCK = 16
_MOST_BLOCKS = 512
_SUREST = 99.0
"""Replaces infinity, which JSON lacks; thresholds are lower."""
log = structlog.get_logger()


class RecordedRequest(msgspec.Struct, frozen=True, gc=False):
    """One request that has ended."""

    features: Features
    arrived_at: float
    rung: str = ""
    """The rung that answered."""
    output_tokens: int = 0
    prompt: tuple[int, ...] = ()
    """Token ids of its first prompt on the first rung; empty if there was none."""
    cache_salt: str = ""
    """The request's own."""
    margins: tuple[float, ...] = ()
    ttft_s: float | None = None


class Recording:
    """The file and its pending lines; outlives the recorder's restarts. Any task may call `note`."""

    def __init__(self, path: Path, mailbox: Mailbox[RecordedRequest], started: float) -> None:
        """`started`: seconds since 1970."""
        self.path = path
        self.mailbox = mailbox
        self.waiting: list[RecordedRequest] = []
        """From the mailbox, for the next write."""
        self.salt = secrets.token_bytes(16)
        """Names in the recording cannot be traced back without it."""
        self.zero = trio.current_time()
        self.started = started
        self.lost = 0
        """Lines lost since the last successful write."""

    def note(self, note: RecordedRequest) -> None:
        """Record it, unless the mailbox is full or the recorder is off."""
        try:
            self.mailbox.put_nowait(note)
        except MailboxFull:
            if self.mailbox.refused_total == 1:
                log.warning("recording_drops_requests", path=str(self.path))


class Recorder(Actor[RecordedRequest]):
    """Passes lines to a worker thread, which writes them."""

    redelivered: ClassVar[tuple[type, ...]] = (RecordedRequest,)

    def __init__(self, recording: Recording, workers: WorkerPool) -> None:
        super().__init__(recording.mailbox)
        self._recording = recording
        self._workers = workers

    def on(self, message: RecordedRequest) -> None:
        """Keep it for the next write; after a redelivery it may be there already."""
        waiting = self._recording.waiting
        if not waiting or waiting[-1] is not message:
            waiting.append(message)

    async def run(self) -> None:
        """Until cancelled; the rest is written before this returns."""
        recording = self._recording
        try:
            while True:
                if not recording.waiting:
                    await self.mailbox.ready()
                self._take_all()
                notes, recording.waiting = recording.waiting, []
                with trio.CancelScope(shield=True):
                    await self._workers.run_in_thread(partial(append, recording, notes))
        except trio.Cancelled:
            self._take_all()
            append(recording, recording.waiting)
            raise

    def _take_all(self) -> None:
        for _ in range(len(self.mailbox)):
            self.on(self.mailbox.take())
        self.mailbox.done()


def append(recording: Recording, notes: Iterable[RecordedRequest]) -> None:
    """Append all lines or none, so that the file has no partial line. With a full disk lines are lost."""
    lines = [line for note in notes if (line := _line(recording, note))]
    data = b"".join(lines)
    try:
        with recording.path.open("ab", buffering=0) as file:
            begin = file.tell()
            if not begin:
                head = TraceHead(penstock_trace=1, started=recording.started, prefix_block=PREFIX_BLOCK)
                data = msgspec.json.encode(head) + b"\n" + data
            try:
                _write(file, data)
            except OSError:
                file.truncate(begin)
                raise
    except OSError as error:
        if not recording.lost:
            log.warning("recording_failed", path=str(recording.path), why=error.strerror or str(error))
        recording.lost += len(lines)
        return
    if recording.lost and lines:
        log.warning("recording_goes_on", path=str(recording.path), lost=recording.lost)
        recording.lost = 0


def _line(recording: Recording, note: RecordedRequest) -> bytes:
    """Empty if encoding failed, so that the other lines are written."""
    try:
        return msgspec.json.encode(request_of(recording, note)) + b"\n"
    except Exception:
        log.exception("recording_line_failed")
        recording.lost += 1
        return b""


def _write(file: FileIO, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def request_of(recording: Recording, note: RecordedRequest) -> TraceRequest:
    """The line of a request."""
    features = note.features
    described = described_requirements(features.path, features.has)
    return TraceRequest(
        at=max(note.arrived_at - recording.zero, 0.0),
        prompt_tokens=max(features.prompt_tokens, 1),
        output_tokens=note.output_tokens,
        model=features.model,
        tenant=features.tenant,
        tier=features.downgraded_from or features.tier,
        tags=tuple(sorted(features.tags)),
        headers=dict(features.headers),
        path=features.path,
        has=tuple(sorted(features.has)),
        max_tokens=features.max_tokens,
        choices=features.choices,
        turn=features.turn,
        complexity=features.complexity,
        code=features.code,
        language=features.language,
        priors={name: (_finite(small), _finite(large)) for name, (small, large) in features.priors.items()},
        conversation=_hidden(recording.salt, features.conversation),
        user=_hidden(recording.salt, features.user),
        requirements=None if features.requirements == described else features.requirements,
        prefix=_prefix(recording.salt, note.cache_salt, note.prompt),
        margins=tuple([min(margin, _SUREST) for margin in note.margins]),
        rung=note.rung,
        ttft_s=note.ttft_s,
    )


def _finite(number: float) -> float:
    return min(max(number, -_SUREST), _SUREST)


def _hidden(salt: bytes, word: str) -> str:
    return blake2b(word.encode(), key=salt, digest_size=8).hexdigest() if word else ""


def _prefix(salt: bytes, own: str, prompt: tuple[int, ...]) -> tuple[int, ...]:
    names, name = [], chain_root([("recording", salt), ("request", own.encode("utf-8", "surrogatepass"))])
    for begin in range(0, min(len(prompt), _MOST_BLOCKS * PREFIX_BLOCK) - PREFIX_BLOCK + 1, PREFIX_BLOCK):
        name = chain_next(name, prompt[begin : begin + PREFIX_BLOCK])
        names.append(int.from_bytes(name[:6], "big"))
    return tuple(names)
