"""`penstock check` and `penstock policy check`: read a configuration and say everything that is wrong with it."""

import argparse
from pathlib import Path
from typing import Any

from config.load import load_settings
from gateway.cli_errors import CliError
from gateway.model_files import model_file_problems


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    """Declare the command."""
    parser = commands.add_parser("check", help="read a configuration and print every problem in it")
    parser.add_argument("config", type=Path, metavar="FILE")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print what the file holds; its problems are an error."""
    settings = load_settings(arguments.config)
    if problems := model_file_problems(settings):
        raise CliError("\n".join([f"{arguments.config}: {problem}" for problem in problems]), 2)
    counts = {
        "engines": len(settings.engines),
        "upstreams": len(settings.upstreams),
        "models": len(settings.models),
        "routes": len(settings.routes),
        "cascades": len(settings.cascades),
        "ladders": len(settings.ladders),
        "tenants": len(settings.tenants),
        "keys": len(settings.keys),
    }
    print(f"{arguments.config}: good: " + ", ".join([f"{name} {count}" for name, count in counts.items() if count]))
    return 0
