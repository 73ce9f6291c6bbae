"""The command line's parser. It suggests the nearest valid word, and lists the commands if none is given."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from config.problems.problems import nearest


class Parser(argparse.ArgumentParser):
    """Like its base class, with suggestions; argparse uses the same class for the parsers of subcommands."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As the base class does, but unknown arguments end the program here, where the valid options are known."""
        given = sys.argv[1:] if args is None else list(args)
        commands = self._subparsers is not None
        if commands and not given:
            self.print_help(sys.stderr)
            self.exit(2)
        if not commands:
            self._check_options(given)
        parsed, rest = super().parse_known_args(given, namespace)
        if rest:
            self._refuse(rest[0])
        return parsed, rest

    def error(self, message: str) -> NoReturn:
        """Print the error and how to get help; exit with code 2."""
        self.exit(2, f"penstock: {message}\nsee {self.prog} --help\n")

    def _check_options(self, given: Sequence[str]) -> None:
        """Report an unknown option before a missing one: it may be the missing option, mistyped."""
        for word in given:
            name = word.partition("=")[0]
            if name == "--":
                return
            if name.startswith("--") and not any(option.startswith(name) for option in self._option_string_actions):
                self._refuse(name)

    def _refuse(self, word: str) -> NoReturn:
        self.error(f"{self.prog} has no option or argument {word!r}{_hint(word, list(self._option_string_actions))}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            hint = _hint(str(value), known) or f"; choose from: {', '.join(known)}"
            raise argparse.ArgumentError(action, f"there is no {value!r}{hint}")


def _hint(word: str, known: Sequence[str]) -> str:
    near = nearest(word, known)
    return f"; did you mean {near}?" if near else ""
