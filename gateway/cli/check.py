"""`penstock check` and `penstock policy check`: read a configuration and print all errors and warnings."""

import argparse
import datetime as dt
from pathlib import Path
from typing import Any

import msgspec

from config.load import LoadedConfig, load
from config.model.settings import EngineSettings
from engine.errors import ModelError
from engine.model.vector_model import made_by
from gateway.cli.checked_file import add_options, check_file

_EPILOG = """\
A configuration with errors is not served; warnings point out what is probably not intended. Exit code 0: no errors;
2: errors, or warnings with --strict. On a terminal each problem is shown with its source line, elsewhere on one line.
Values under names such as key, hash, headers, token or password are never shown.
--json prints a list of {file, line, column, where, severity, message,
expected, suggestion}, empty without problems.
"""


def add_to(commands: "argparse._SubParsersAction[Any]", same_as: str = "") -> None:
    """`same_as`: the other name of this command."""
    help_text = "read a configuration and print every problem in it" + (f"; same as `{same_as}`" if same_as else "")
    parser = commands.add_parser("check", help=help_text, description=f"{help_text}.".capitalize(), epilog=_EPILOG)
    parser.add_argument("config", type=Path, metavar="FILE", help="a TOML file, or a folder of them")
    add_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    return check_file(arguments.config, arguments, _load, _summary)


def _load(path: Path) -> LoadedConfig:
    return load(path, today=dt.datetime.now(dt.UTC).date(), made_by=_made_by)


def _made_by(engine: EngineSettings) -> str | None:
    if not (engine.model / "config.json").is_file():
        return None
    try:
        return made_by(engine.model, engine.rerank)
    except ModelError:
        return None


def _summary(loaded: LoadedConfig) -> str:
    tables = msgspec.structs.asdict(loaded.settings)
    del tables["prices"]
    counts = {name: len(table) for name, table in tables.items() if isinstance(table, dict | tuple)}
    counts["warnings"] = len(loaded.warnings)
    return ", ".join([f"{name} {count}" for name, count in counts.items() if count])
