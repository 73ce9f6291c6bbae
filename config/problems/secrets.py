"""Recognises secrets in a configuration, so that no message, log or quoted source line contains them."""

import re
from collections.abc import Iterator, Sequence

MASK = "***"
_WORDS = frozenset(
    {"hash", "key", "headers", "token", "secret", "password", "passwd", "authorization", "cookie", "credential"}
    | {"credentials", "apikey", "bearer", "passphrase"}
)
_PART = re.compile(r"[^A-Za-z]+|(?<=[a-z])(?=[A-Z])")
_SECRET_FORM = re.compile(
    r"(?=\S*[0-9])(?:(?:sk|pk|rk|xox[a-z]|glpat)-|(?:sk|pk|ghp|gho|hf|penstock)_)[-_A-Za-z0-9.]{8,}\S*"
    r"|(?:AKIA|eyJ)[-_A-Za-z0-9.]{12,}|(?:Bearer|Basic)\s.*"
    r"|(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9+=_-]{32,}"
)
_QUOTED = re.compile(r'"(?:\\.|[^"\\\n])*"?|\'[^\'\n]*\'?')
_BARE_WORD = re.compile(r"""[^\s"'=,\[\]{}]{8,}""")
_BARE_VALUE = re.compile(r"""([=:\[,]\s*)([^\s"'\[\]{}=,#][^,}\]#]*)""")
_KEY_BEFORE = re.compile(r"""["']?([A-Za-z0-9_.-]+)["']?\s*[=:]\s*[\[{]?\s*$""")
_HEADER = re.compile(r"\s*\[\[?\s*([^\]#]+)")
_USER = re.compile(r"(?<=://)[^/@\s\"']+(?=@)")
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_QUERY = re.compile(r"(?<=\?)[^\"'\s]+")


def is_secret_name(name: str) -> bool:
    """Whether the value of a key with this name is secret."""
    words = [word.lower() for word in _PART.split(name) if word]
    return not _WORDS.isdisjoint(words) and words[-2:] not in (["key", "header"], ["header", "key"])


def looks_secret(value: str) -> bool:
    """Whether a text has the form of a key or token, or is a URL with a user."""
    return bool(_SECRET_FORM.fullmatch(value.strip()) or (_USER.search(value) and "://" in value))


def is_secret_step(path: Sequence[str | int], at: int) -> bool:
    """Whether a key in the path is itself secret: by its form, or because it is no valid header name in `headers`."""
    step = path[at]
    if not isinstance(step, str):
        return False
    below = any(isinstance(outer, str) and is_secret_name(outer) for outer in path[:at])
    return looks_secret(step) or (below and HEADER_NAME.fullmatch(step) is None)


def holds_keys(name: str) -> bool:
    """Whether it is a list of key tables: a string in it, written by mistake instead of a table, is a key."""
    return name.rpartition(".")[2] == "keys"


def secret_texts(document: object) -> frozenset[str]:
    """The strings of a document that occur only below keys of `is_secret_name`."""
    texts: tuple[set[str], set[str]] = (set(), set())
    for text, inside in _texts(document, inside=False):
        texts[inside].add(text)
    return frozenset(texts[True] - texts[False])


def _texts(value: object, *, inside: bool, of_keys: bool = False) -> Iterator[tuple[str, bool]]:
    match value:
        case dict():
            for key, inner in value.items():
                yield key, False
                of_keys = holds_keys(key)
                bare = of_keys and isinstance(inner, str)
                yield from _texts(inner, inside=inside or bare or is_secret_name(key), of_keys=of_keys)
        case list():
            for inner in value:
                yield from _texts(inner, inside=inside or (of_keys and isinstance(inner, str)))
        case str() if value:
            yield value, inside


def masked_line(lines: list[str], number: int) -> str:
    """A line of a TOML text (counted from 1) with everything masked that may be a secret."""
    line = lines[number - 1]
    inside = is_secret_name(_table_of(lines, number))

    def hidden(match: re.Match[str]) -> str:
        text = match.group()
        if line[match.end() :].lstrip().startswith("=") and not inside:
            return text  # a key in quotes
        if inside or _is_under_secret(line[: match.start()]) or looks_secret(text.strip("\"'")):
            return text[0] + MASK.center(len(text) - 2, "*")[: max(len(text) - 2, 1)] + text[0]
        return _QUERY.sub(MASK, _USER.sub(MASK, text))

    shown = _QUOTED.sub(hidden, line)
    shown = _BARE_VALUE.sub(
        lambda match: f"{match[1]}{MASK}" if inside or _is_under_secret(match.string[: match.end(1)]) else match[0],
        shown,
    )
    return _BARE_WORD.sub(lambda match: MASK if looks_secret(match.group()) else match.group(), shown)


def _is_under_secret(before: str) -> bool:
    """Whether the text after this part of a line is the value of a secret key, or inside its table or list."""
    depth, at, in_table = 0, len(before), False
    direct = _KEY_BEFORE.search(before)
    if direct and (_is_secret_path(direct[1]) or holds_keys(direct[1])):
        return True
    while at:
        at -= 1
        match before[at]:
            case "}" | "]":
                depth += 1
            case ("{" | "[") as opener:
                depth -= 1
                in_table = in_table or (depth < 0 and opener == "{")
                if depth < 0:
                    depth = 0
                    around = _KEY_BEFORE.search(before[:at])
                    if around and (_is_secret_path(around[1]) or (holds_keys(around[1]) and not in_table)):
                        return True
    return False


def _is_secret_path(dotted: str) -> bool:
    return any(is_secret_name(part) for part in dotted.split("."))


def _table_of(lines: list[str], number: int) -> str:
    """The last name in the table header above the line."""
    for line in reversed(lines[: number - 1]):
        header = _HEADER.match(line)
        if header and "=" not in line:
            return header[1].strip().split(".")[-1].strip("\"' ")
    return ""
