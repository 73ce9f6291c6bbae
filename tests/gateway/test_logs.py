"""A traceback in the log shows where, never what: local variables hold prompts, answers and keys."""

import io
import logging
from collections.abc import Iterator

import pytest
import structlog

from gateway.logs import configure_logs


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
