"""`penstock batch run` and `penstock batch resume`: wait for a batch, and fetch its results."""

import argparse
from pathlib import Path
from typing import Any

import msgspec

from gateway.cli.batch.client import BatchClient, pause
from gateway.cli.batch.progress import BatchProgress, line_of
from gateway.cli.batch.server_flags import add_server_flags, client_of
from gateway.cli.terminal import say
from gateway.errors import CliError
from gateway.openai.batches.batch_object import ENDPOINTS

_ENDED = frozenset({"failed", "completed", "expired", "cancelled"})
_FIRST_LOOK_S, _LONGEST_LOOK_S = 0.2, 2.0
_SHOWN_FAULTS = 20
_EPILOG = """\
Ctrl-C ends the command, not the batch: `penstock batch resume ID` goes on with it. Exit code 0: every request was
answered; 1: some were not, or the batch has failed; 2: wrong usage; 130: Ctrl-C.
"""


class _Line(msgspec.Struct):
    url: str


def add_run(commands: "argparse._SubParsersAction[Any]") -> None:
    text = "upload a file of requests, wait until they are answered, and fetch the results"
    parser = commands.add_parser("run", help=text, description=f"{text}.".capitalize(), epilog=_EPILOG)
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="one request a line, as JSON: custom_id, method, url, body"
    )
    parser.add_argument("--endpoint", choices=list(ENDPOINTS), help="of the requests (default: that of the first line)")
    _add_out(parser, "FILE with .results.jsonl at its end")
    add_server_flags(parser)
    parser.set_defaults(run=run)


def add_resume(commands: "argparse._SubParsersAction[Any]") -> None:
    text = "wait for a batch that was begun before, and fetch the results"
    parser = commands.add_parser("resume", help=text, description=f"{text}.".capitalize(), epilog=_EPILOG)
    parser.add_argument("batch", metavar="ID", help="the batch")
    _add_out(parser, "ID.results.jsonl")
    add_server_flags(parser)
    parser.set_defaults(run=resume)


def _add_out(parser: argparse.ArgumentParser, default: str) -> None:
    help_text = f"where the results go; errors go beside it (default: {default})"
    parser.add_argument("--out", type=Path, metavar="FILE", help=help_text)


def run(arguments: argparse.Namespace) -> int:
    path: Path = arguments.file
    endpoint = arguments.endpoint or _endpoint_of(path)
    out = arguments.out or path.with_suffix(".results.jsonl")
    _check_new(out)
    client = client_of(arguments)
    file_id = client.upload(path)
    batch = client.create(file_id, endpoint)
    say(f"{batch['id']} was created from {path}")
    return _follow(client, batch, out)


def resume(arguments: argparse.Namespace) -> int:
    client = client_of(arguments)
    out = arguments.out or Path(f"{arguments.batch}.results.jsonl")
    _check_new(out)
    return _follow(client, client.batch(arguments.batch), out)


def _endpoint_of(path: Path) -> str:
    """That of the first request."""
    try:
        with path.open("rb") as file:
            first = next((line for line in file if line.strip()), b"")
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror or error}", 2) from None
    try:
        endpoint = msgspec.json.decode(first, type=_Line).url
    except msgspec.DecodeError:
        raise CliError(
            f"{path}: the first line is no request: a JSON object with custom_id, method, url and body", 2
        ) from None
    if endpoint not in ENDPOINTS:
        raise CliError(f"{path}: the url '{endpoint[:80]}' is none of {', '.join(ENDPOINTS)}", 2)
    return endpoint


def _errors_beside(out: Path) -> Path:
    stem = out.name.removesuffix(".jsonl").removesuffix(".results")
    return out.with_name(f"{stem}.errors.jsonl")


def _check_new(out: Path) -> None:
    for path in (out, _errors_beside(out)):
        if path.exists():
            raise CliError(f"{path} exists already: move it, or give --out another name", 2)


def _follow(client: BatchClient, batch: dict[str, Any], out: Path) -> int:
    try:
        wait_s = _FIRST_LOOK_S
        with BatchProgress() as progress:
            progress.show(batch)
            while batch["status"] not in _ENDED:
                pause(wait_s)
                wait_s = min(wait_s * 1.5, _LONGEST_LOOK_S)
                batch = client.batch(batch["id"])
                progress.show(batch)
    except (KeyboardInterrupt, CliError):
        say(f"the batch goes on without this command: penstock batch resume {batch['id']}")
        raise
    return _fetch(client, batch, out)


def _fetch(client: BatchClient, batch: dict[str, Any], out: Path) -> int:
    say(line_of(batch))
    if batch["status"] == "failed":
        faults = (batch["errors"] or {"data": []})["data"]
        for fault in faults[:_SHOWN_FAULTS]:
            where = "" if fault["line"] is None else f"line {fault['line']}: "
            say(f"  {where}{fault['message']} ({fault['code']})")
        if len(faults) > _SHOWN_FAULTS:
            say(f"  and {len(faults) - _SHOWN_FAULTS} more")
        return 1
    for name, path in (("output_file_id", out), ("error_file_id", _errors_beside(out))):
        if batch[name] is not None:
            client.fetch(batch[name], path)
            say(f"{'results' if path == out else 'errors'} are in {path}")
    complete: bool = batch["status"] == "completed" and not batch["request_counts"]["failed"]
    return 0 if complete else 1
