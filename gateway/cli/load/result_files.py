"""Files for results of a run: looked at before it, because a run whose result cannot be written is lost."""

from collections.abc import Callable
from pathlib import Path

from gateway.cli.terminal import check_writable, say, write_file
from gateway.errors import CliError


def check_results(*paths: Path | None) -> None:
    """Raise CliError where a file cannot be written; None: it is not wanted. What a file holds stays as it is."""
    for path in paths:
        if path is not None and (path.is_dir() or path.is_file() or not path.exists()):
            check_writable(path, 2)


def check_folder(path: Path | None) -> None:
    """Make the folder. Raises CliError where files in it cannot be written."""
    if path is None:
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CliError(f"{path} cannot be made: {error.strerror or error}", 2) from None
    check_writable(path / ".writable", 2)


def write_result(path: Path | None, content: Callable[[], bytes], said: str) -> bool:
    """Write it, and say `said`; if it cannot be written, say that. Returns whether there is nothing that is lost."""
    if path is None:
        return True
    try:
        write_file(path, content())
    except CliError as error:
        say(f"not written: {error}")
        return False
    say(said)
    return True
