"""What is wrong with a text that is no TOML, in words: what stands there, what was said twice, what would be right."""

import re

from config.problems.source_map import BrokenSourceMap, Position, show_path

_PLACE = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")
_TWICE = re.compile(r"overwrite|twice|Duplicate|immutable|redefine|mutate", re.IGNORECASE)
_WORD = re.compile(r"[^\s,\]}#=]+")
_UNIT = re.compile(r"(?<![\w.\"'])([0-9][0-9_]*(?:\.[0-9]+)?)\s?(ms|s|m|h|d|B|KiB|MiB|GiB|KB|MB|GB|%)(?![\w\"'])")
_UNITS = {"KB": "KiB", "MB": "MiB", "GB": "GiB"}
_RIGHT = {
    "Unterminated string": "a quotation mark at the end of the string",
    "Unclosed array": "a ']'",
    "Unclosed inline": "a '}' on the same line",
    "Expected '='": "KEY = VALUE",
}
_YES_NO = {"True": "true", "False": "false", "yes": "true", "no": "false", "on": "true", "off": "false"}
_NOTHING = {"null", "None", "nil", "none", "Null"}
_COLON = re.compile(r"\s*[\w.\"'-]+\s*:\s*\S")
_WORDS = {
    "Expected '=' after a key in a key/value pair": "there is no '=' after the key",
    "Invalid statement": "this is neither a key with its value nor the head of a table",
    "Invalid value": "this is no value",
    "Unclosed array": "a list is opened and not closed",
    "Unclosed inline table": "a table in braces is opened and not closed",
    "Unterminated string": "a string is opened and not closed",
    "Expected newline or end of document after a statement": "something follows the value on its line",
    "Invalid initial character for a key part": "this cannot begin a key",
    "Expected ']' at the end of a table declaration": "the ']' of the table's head is missing",
    "Expected ']]' at the end of an array declaration": "the ']]' of the list's head is missing",
    "Unescaped '\\' in a string": "a '\\' in a string needs another one before it",
}


def toml_fault(message: str, text: str) -> tuple[str, str, Position]:
    """What tomllib says of the text, as: what is wrong, what would be right, and where."""
    text = text.replace("\r\n", "\n")
    lines = text.split("\n")
    place = Position(len(lines), len(lines[-1]) + 1)
    if found := _PLACE.search(message):
        message = message[: found.start()]
        if found[1]:
            place = Position(int(found[1]), int(found[2]))
    if _TWICE.search(message) and (again := BrokenSourceMap(text).said_twice()):
        path, first, second = again
        return f"'{show_path(path)}' is given twice: on line {first.line}, and here", "it once", second
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    if message.startswith("Illegal character") and "\\n" in message:
        message = "Unterminated string"
    unit = next((each for each in _UNIT.finditer(line) if each.end() >= place.column), None)
    opened = _last_opened(lines)
    if opened is not None and unit is None and (message.startswith("Unclosed") or place.line == len(lines)):
        place = opened
        line = lines[place.line - 1]
    known = _WORDS.get(message, f"{message[:1].lower()}{message[1:]}")
    return f"this is not TOML: {known}", _right(message, line, place, unit), place


def _right(message: str, line: str, place: Position, unit: re.Match[str] | None) -> str:
    found = _WORD.match(line[place.column - 1 :])
    word = found.group() if found else ""
    if _COLON.match(line):
        return f"'=' between a key and its value: write {line.strip().replace(':', ' =', 1)}"
    if unit is not None and unit[2] == "%":
        return f"a share: write {float(unit[1].replace('_', '')) / 100:g}"
    if unit is not None:
        return f'quotation marks: write "{unit[1]}{_UNITS.get(unit[2], unit[2])}"'
    if message == "Invalid value":
        return _right_value(word)
    return next((right for begin, right in _RIGHT.items() if message.startswith(begin)), "")


def _right_value(word: str) -> str:
    if word in _YES_NO:
        return f"true or false: write {_YES_NO[word]}"
    if word in _NOTHING:
        return "the line left out: a key that is not there has its default"
    if re.fullmatch(r"\.\d+|\d+\.", word):
        return f"digits on both sides of the point: write {float(word):g}"
    return "quotation marks around a text" if word else "a value"


def _last_opened(lines: list[str]) -> Position | None:
    """The last bracket or brace behind a '=' that nothing closes."""
    for number in range(len(lines), 0, -1):
        line = lines[number - 1]
        found = re.search(r"=\s*([\[{])", line)
        if found and line.count("[") + line.count("{") > line.count("]") + line.count("}"):
            return Position(number, found.start(1) + 1)
    return None
