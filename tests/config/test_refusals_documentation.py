"""The example of refusals in docs/upstreams.md can be loaded, and its table has all kinds of failures."""

import re
from pathlib import Path
from typing import get_args

from actors.upstream.failures.error_kind import FailureKind
from config.load import parse
from tests.paths import DOCS

PAGE = (DOCS / "upstreams.md").read_text()
SECTION = PAGE[PAGE.index("## Whose fault it is") :].split("\n## ")[0]


def test_the_example_is_a_good_file() -> None:
    text, budget = re.findall(r"```toml\n(.*?)```", SECTION, re.DOTALL)
    loaded = parse(text + budget, Path("/etc/penstock.toml"))
    assert loaded.settings.retry_budget.at_least == 3
    assert loaded.settings.ladders["outside-first"][0].wait_out == 2.0
    assert loaded.warnings == ()


def test_the_table_has_every_kind() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", SECTION, re.MULTILINE)) == set(get_args(FailureKind))
