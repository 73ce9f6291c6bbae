"""Turns tomllib's syntax errors into messages that say what is wrong, where, and how to correct it."""

import re

from config.problems.source_map import BrokenSourceMap, Position, show_path

_PLACE = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")
_TWICE = re.compile(r"overwrite|twice|Duplicate|immutable|redefine|mutate", re.IGNORECASE)
_WORD = re.compile(r"[^\s,\]}#=]+")
_UNIT = re.compile(r"(?<![\w.\"'])([0-9][0-9_]*(?:\.[0-9]+)?)\s?(ms|s|m|h|d|B|KiB|MiB|GiB|KB|MB|GB|%)(?![\w\"'])")
_UNITS = {"KB": "KiB", "MB": "MiB", "GB": "GiB"}
_EXPECTED = {
    "Unterminated string": "a quotation mark at the end of the string",
    "Unclosed array": "a ']'",
    "Unclosed inline": "a '}' on the same line",
    "Expected '='": "KEY = VALUE",
}
_BOOLEANS = {"True": "true", "False": "false", "yes": "true", "no": "false", "on": "true", "off": "false"}
_NULLS = {"null", "None", "nil", "none", "Null"}
_COLON = re.compile(r"\s*[\w.\"'-]+\s*:\s*\S")
_MESSAGES = {
    "Expected '=' after a key in a key/value pair": "there is no '=' after the key",
    "Invalid statement": "this is neither a key with its value nor the header of a table",
    "Invalid value": "this is not a value",
    "Unclosed array": "a list is opened and not closed",
    "Unclosed inline table": "a table in braces is opened and not closed",
    "Unterminated string": "a string is opened and not closed",
    "Expected newline or end of document after a statement": "something follows the value on its line",
    "Invalid initial character for a key part": "a key cannot begin with this",
    "Expected ']' at the end of a table declaration": "the ']' of the table's header is missing",
    "Expected ']]' at the end of an array declaration": "the ']]' of the list's header is missing",
    "Unescaped '\\' in a string": "a '\\' in a string needs another one before it",
}


def toml_fault(message: str, text: str) -> tuple[str, str, Position]:
    """Translate tomllib's error message. Returns the message, what is expected, and the position."""
    text = text.replace("\r\n", "\n")
    lines = text.split("\n")
    place = Position(len(lines), len(lines[-1]) + 1)
    if position := _PLACE.search(message):
        message = message[: position.start()]
        if position[1]:
            place = Position(int(position[1]), int(position[2]))
    if _TWICE.search(message) and (duplicate := BrokenSourceMap(text).duplicate()):
        path, first, second = duplicate
        return f"'{show_path(path)}' is given twice: on line {first.line}, and here", "it once", second
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    if message.startswith("Illegal character") and "\\n" in message:
        message = "Unterminated string"
    unit = next((match for match in _UNIT.finditer(line) if match.end() >= place.column), None)
    opened = _last_opened(lines)
    if opened is not None and unit is None and (message.startswith("Unclosed") or place.line == len(lines)):
        place = opened
        line = lines[place.line - 1]
    shown = _MESSAGES.get(message, f"{message[:1].lower()}{message[1:]}")
    return f"this is not TOML: {shown}", _expected(message, line, place, unit), place


def _expected(message: str, line: str, place: Position, unit: re.Match[str] | None) -> str:
    match = _WORD.match(line[place.column - 1 :])
    word = match.group() if match else ""
    if _COLON.match(line):
        return f"'=' between a key and its value: write {line.strip().replace(':', ' =', 1)}"
    if unit is not None and unit[2] == "%":
        return f"a share: write {float(unit[1].replace('_', '')) / 100:g}"
    if unit is not None:
        return f'quotation marks: write "{unit[1]}{_UNITS.get(unit[2], unit[2])}"'
    if message == "Invalid value":
        return _expected_value(word)
    return next((expected for begin, expected in _EXPECTED.items() if message.startswith(begin)), "")


def _expected_value(word: str) -> str:
    if word in _BOOLEANS:
        return f"true or false: write {_BOOLEANS[word]}"
    if word in _NULLS:
        return "the line left out: a missing key has its default"
    if re.fullmatch(r"\.\d+|\d+\.", word):
        return f"digits on both sides of the point: write {float(word):g}"
    return "quotation marks around a text" if word else "a value"


def _last_opened(lines: list[str]) -> Position | None:
    """The last bracket or brace after a '=' that is not closed on its line."""
    for number in range(len(lines), 0, -1):
        line = lines[number - 1]
        match = re.search(r"=\s*([\[{])", line)
        if match and line.count("[") + line.count("{") > line.count("]") + line.count("}"):
            return Position(number, match.start(1) + 1)
    return None
