"""What docs/operations.md shows can be loaded."""

import re
from pathlib import Path

from config.load import parse_settings
from tests.actors.fakes import CONFIG

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"


def test_its_examples_fit_into_a_file() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    text = CONFIG + "\n".join(blocks).replace('hash = "…"', f'hash = "{"0" * 64}"').replace('["chat"]', '["small"]')
    settings = parse_settings(text, Path("/nowhere/house.toml"))
    assert settings.admin.enabled
    assert settings.shadows[0].to == "large"
