"""Reads a configuration in a process of its own: `COMMAND PATH`; with `--stdin`, what could be there.

Checks of a large policy take the better part of a second of pure Python. In a thread they would take turns with the
event loop at every system call that it makes, and streams would feel that; a process costs them nothing.
"""

import datetime as dt
import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from config.load import LoadedConfig, load, parse
from config.problems.errors import ConfigError, Problem

COMMAND = (sys.executable, "-P", "-c", "import os; os.nice(19); import config.reader; config.reader.main()")
"""At the lowest priority, from its first import on: where there is but one core, streams go first."""


class ReaderReport(msgspec.Struct, frozen=True):
    """What there is, or everything that is wrong with it."""

    loaded: LoadedConfig | None = None
    problems: tuple[Problem, ...] = ()


def report(path: Path, text: str | None) -> ReaderReport:
    """Of what `path` holds, or of the text that it could hold."""
    try:
        if text is not None:
            return ReaderReport(parse(text, path))
        return ReaderReport(load(path, today=dt.datetime.now(dt.UTC).date()))
    except ConfigError as error:
        return ReaderReport(problems=error.problems)


def encode_report(found: ReaderReport) -> bytes:
    """For `decode_report`: MessagePack, which keeps infinities."""
    return msgspec.msgpack.encode(found, enc_hook=_plain)


def decode_report(raw: bytes) -> ReaderReport:
    """Raises msgspec.DecodeError."""
    return msgspec.msgpack.decode(raw, type=ReaderReport, dec_hook=lambda kind, value: kind(value))


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError


def main() -> None:
    """Write the report to standard output."""
    *options, path = sys.argv[1:]
    text = sys.stdin.buffer.read().decode() if "--stdin" in options else None
    try:
        sys.stdout.buffer.write(encode_report(report(Path(path), text)))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # Who asked was killed, and its log is no place for this. What is still buffered must go somewhere at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
