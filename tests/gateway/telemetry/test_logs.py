"""A traceback in the log shows where, never what: local variables hold prompts, answers and keys."""

import io
import json
import logging
import os
from collections.abc import Iterator

import pytest
import structlog

from gateway.telemetry.logs import configure_logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
@pytest.mark.parametrize("through", ["structlog", "logging"])
def test_no_local_variable_is_shown(stream: io.StringIO, through: str) -> None:
    configure_logs("info", stream)
    words = ["sk", "very", "secret"]

    def fail() -> None:
        key = "-".join(words)
        raise RuntimeError(f"{len(key)} characters are no good")

    try:
        fail()
    except RuntimeError:
        if through == "structlog":
            structlog.get_logger().exception("it_failed")
        else:
            logging.getLogger("a.library").exception("it failed")
    said = stream.getvalue()
    assert "characters are no good" in said
    assert "sk-very-secret" not in said


def test_who_does_not_read_loses_lines_of_requests_and_stops_nobody() -> None:
    """A pipe takes 64 KiB; a line more would wait for its reader, and the event loop with it."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", buffering=1) as stream, os.fdopen(reading, "rb") as reader:
        configure_logs("info", stream)
        log = structlog.get_logger()
        for number in range(2000):
            log.info("request_finished", number=number, said="x" * 100)
        os.set_blocking(reading, False)
        said = reader.read().splitlines()
        assert 100 < len(said) < 2000
        assert json.loads(said[0])["number"] == 0
        # Now there is room again.
        log.info("request_finished", number=-1)
        assert json.loads(reader.read())["number"] == -1
