"""Checks of `[batch]`."""

from pathlib import Path

import pytest

from config.load import parse_settings
from config.problems.errors import ConfigError
from tests.actors.configuration import CONFIG


@pytest.mark.parametrize(
    ("lines", "where", "fragment"),
    [
        ('file = ":memory:"', "batch.file", "another use"),
        ('file = "r"\n[server]\nresponses_file = "r"', "batch.file", "another use"),
        ('max_file = "300MiB"', "batch.max_file", "always refused"),
        ('storage = "1MiB"', "batch.storage_per_tenant", "more than storage"),
        ("price = 1.5", "batch.price", "0 to 1"),
        ("max_lines = 0", "batch.max_lines", "at least 1"),
        ("prize = 0.5", "batch.prize", "price"),
    ],
)
def test_what_is_refused(lines: str, where: str, fragment: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(f"{CONFIG}\n[batch]\n{lines}\n", Path("/nowhere/service.toml"))
    (problem,) = caught.value.problems
    assert problem.where == where
    assert fragment in str(problem)
