"""Logging: JSON lines to standard error, or readable lines on a terminal. No prompts, answers or keys."""

import logging
import select
import sys
from typing import TextIO

import structlog

from actors.kernel.errors import ServiceFailed
from actors.request.request_log import REQUEST_FINISHED


def _without_told_tracebacks(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """`ServiceFailed` explains itself: drop its traceback."""
    info = event.get("exc_info")
    error = sys.exception() if info is True else info[1] if isinstance(info, tuple) else info
    if isinstance(error, ServiceFailed):
        del event["exc_info"]
    return event


def _unless_it_would_wait(stream: TextIO) -> structlog.typing.Processor:
    """Drop lines of requests if standard error is not read, so that writing them never blocks an answer."""
    try:
        descriptor = stream.fileno()
    except OSError:
        descriptor = None
    writable = select.poll()
    if descriptor is not None:
        writable.register(descriptor, select.POLLOUT)

    def process(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if descriptor is not None and event["event"] == REQUEST_FINISHED and not writable.poll(0):
            raise structlog.DropEvent
        return event

    return process


def configure_logs(level: str, stream: TextIO | None = None) -> None:
    """Call once, before anything logs. Libraries that use `logging` get the same format, from warnings up."""
    stream = stream or sys.stderr
    for_people = stream.isatty()
    shared: list[structlog.typing.Processor] = [
        _unless_it_would_wait(stream),
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _without_told_tracebacks,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if for_people else "iso", utc=not for_people),
    ]
    render: list[structlog.typing.Processor]
    if for_people:
        # Without local variables: they hold prompts, answers and keys.
        without_locals = structlog.dev.RichTracebackFormatter(show_locals=False)
        render = [structlog.dev.ConsoleRenderer(exception_formatter=without_locals)]
    else:
        render = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(stream),
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render], foreign_pre_chain=shared
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
