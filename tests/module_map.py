"""`tests/MAP.md` as a table."""

import re
from pathlib import Path

MAP_ROW = re.compile(r"^\| `([\w/]+\.py)` \| (`[^|]+`) \| ([^|]+) \|$", re.MULTILINE)


def mapped(tests: Path) -> dict[str, list[str]]:
    """By module: the files of tests that hold it, from the folder `tests`."""
    file = tests / "MAP.md"
    rows = MAP_ROW.findall(file.read_text()) if file.is_file() else []
    return {module: re.findall(r"`([^`]+)`", files) for module, files, _ in rows}
