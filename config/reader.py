"""Reads and checks a configuration in a separate process: `COMMAND PATH`, or with `--stdin` a text as if it were PATH.

Checking a large policy takes most of a second of pure Python. In a thread it would compete with the event loop for the
interpreter lock and delay streams; a separate process does not.
"""

import datetime as dt
import os
import sys
import traceback
from pathlib import Path

import msgspec

from config.load import LoadedConfig, load, parse
from config.model.units import encodable
from config.problems.errors import ConfigError, Problem

COMMAND = (sys.executable, "-P", "-c", "import os; os.nice(19); import config.reader; config.reader.main()")
"""Runs at the lowest priority from its first import on, so that it does not delay streams on a single core."""


class ReaderReport(msgspec.Struct, frozen=True):
    """The configuration, or all of its problems."""

    loaded: LoadedConfig | None = None
    problems: tuple[Problem, ...] = ()


def report(path: Path, text: str | None) -> ReaderReport:
    """The report on the file or folder `path`, or on `text` as if it were there."""
    try:
        if text is not None:
            return ReaderReport(parse(text, path))
        return ReaderReport(load(path, today=dt.datetime.now(dt.UTC).date()))
    except ConfigError as error:
        return ReaderReport(problems=error.problems)


def encoded(path: Path, text: str | None) -> bytes:
    """The encoded report. A fault of this program is a problem in it, and its traceback goes to the error stream."""
    try:
        return encode_report(report(path, text))
    except Exception as error:  # noqa: BLE001  (the process that asked prints why, whatever it was)
        traceback.print_exc()
        message = f"it cannot be used, by a fault of penstock itself ({type(error).__name__}: {error})"
        return encode_report(ReaderReport(problems=(Problem(file=path, message=message),)))


def encode_report(result: ReaderReport) -> bytes:
    """For `decode_report`, as MessagePack, which can represent infinities."""
    return msgspec.msgpack.encode(result, enc_hook=encodable)


def decode_report(raw: bytes) -> ReaderReport:
    """The inverse of `encode_report`. Raises msgspec.DecodeError."""
    return msgspec.msgpack.decode(raw, type=ReaderReport, dec_hook=lambda kind, value: kind(value))


def main() -> None:
    """Write the report on the path in `sys.argv` to standard output."""
    *options, path = sys.argv[1:]
    text = sys.stdin.buffer.read().decode() if "--stdin" in options else None
    try:
        sys.stdout.buffer.write(encoded(Path(path), text))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # The parent process has died. Python flushes the buffer again at exit, which must not print another error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
