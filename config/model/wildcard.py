"""Names with * as a wildcard."""

from fnmatch import fnmatchcase


def fits(name: str, wildcard: str) -> bool:
    """Whether the name is this one; * stands for any characters, also none, and nothing else is special."""
    return fnmatchcase(name, wildcard.replace("[", "[[]").replace("?", "[?]"))
