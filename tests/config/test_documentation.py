"""What docs/configuration.md shows can be loaded."""

import re
from pathlib import Path

from config.load import parse_settings

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_its_examples_make_one_good_file() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(blocks) >= 2
    text = "\n".join(blocks).replace('hash = "…" ', f'hash = "{"0" * 64}" ')
    settings = parse_settings(text, Path("/etc/penstock.toml"))
    assert settings.engines
    assert settings.keys[0].tenant in settings.tenants
