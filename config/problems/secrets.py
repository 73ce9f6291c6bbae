"""What in a configuration may be a secret, and must be repeated nowhere: no message, log or source line shows it."""

import re
from collections.abc import Iterator, Sequence

MASK = "***"
_WORDS = frozenset(
    {"hash", "key", "headers", "token", "secret", "password", "passwd", "authorization", "cookie", "credential"}
    | {"credentials", "apikey", "bearer", "passphrase"}
)
_PART = re.compile(r"[^A-Za-z]+|(?<=[a-z])(?=[A-Z])")
_LOOKS_SO = re.compile(
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
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""Of a header, and of what else has a name."""
_QUERY = re.compile(r"(?<=\?)[^\"'\s]+")


def is_secret_name(name: str) -> bool:
    """Whether what a key of this name holds is not to be shown."""
    words = [word.lower() for word in _PART.split(name) if word]
    return not _WORDS.isdisjoint(words) and words[-2:] not in (["key", "header"], ["header", "key"])


def looks_secret(value: str) -> bool:
    """Whether a text has the shape of a key or a token."""
    return bool(_LOOKS_SO.fullmatch(value.strip()) or (_USER.search(value) and "://" in value))


def is_secret_step(path: Sequence[str | int], at: int) -> bool:
    """Whether a name on the way is a secret: by its shape, or as what was put where the name of a header belongs."""
    step = path[at]
    if not isinstance(step, str):
        return False
    below = any(isinstance(each, str) and is_secret_name(each) for each in path[:at])
    return looks_secret(step) or (below and _NAME.fullmatch(step) is None)


def holds_keys(name: str) -> bool:
    """Whether it is a list of tables about keys, so that a text in it, in place of a table, is a key."""
    return name.rpartition(".")[2] == "keys"


def secret_texts(document: object) -> frozenset[str]:
    """Texts that a document has under names of `is_secret_name` only."""
    found: tuple[set[str], set[str]] = (set(), set())
    for text, inside in _texts(document, inside=False):
        found[inside].add(text)
    return frozenset(found[True] - found[False])


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
    """A line of a TOML text (counted from 1) with everything hidden that may be a secret."""
    line = lines[number - 1]
    inside = is_secret_name(_table_of(lines, number))

    def hidden(found: re.Match[str]) -> str:
        text = found.group()
        if line[found.end() :].lstrip().startswith("=") and not inside:
            return text  # a key in quotes
        if inside or _is_under_secret(line[: found.start()]) or looks_secret(text.strip("\"'")):
            return text[0] + MASK.center(len(text) - 2, "*")[: max(len(text) - 2, 1)] + text[0]
        return _QUERY.sub(MASK, _USER.sub(MASK, text))

    shown = _QUOTED.sub(hidden, line)
    shown = _BARE_VALUE.sub(
        lambda found: f"{found[1]}{MASK}" if inside or _is_under_secret(found.string[: found.end(1)]) else found[0],
        shown,
    )
    return _BARE_WORD.sub(lambda found: MASK if looks_secret(found.group()) else found.group(), shown)


def _is_under_secret(before: str) -> bool:
    """Whether what comes after this part of a line is the value of a secret name, or inside its table or list."""
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
    """The last name in the header that the line stands under."""
    for line in reversed(lines[: number - 1]):
        found = _HEADER.match(line)
        if found and "=" not in line:
            return found[1].strip().split(".")[-1].strip("\"' ")
    return ""
