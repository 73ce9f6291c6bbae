"""Options of a target in addition to its value."""

from pathlib import Path

import pytest

from config.load import load
from config.problems.errors import ConfigError
from config.profiles import embedded_profile

TARGETS = [
    ("{ large_share = 0.25, hold = true }", ""),
    ("{ large_share = 0.25, hold = false }", ""),
    ("{ accuracy_of_large = 0.9, hold = true }", "target.hold: it belongs to large_share, which is not the target"),
    ("{ large_share = 0.25, burst = 0.2 }", "target.burst: it belongs to budget_per_day, which is not the target"),
    ("{ budget_per_day = 5.0, burst = 0.2 }", ""),
    ("{ budget_per_day = 5.0, burst = 0 }", ""),
    ("{ budget_per_day = 5.0, burst = 1.5 }", "target.burst"),
    ("{ budget_per_day = 5.0, hold = true }", "target.hold: it belongs to large_share"),
    ("{ hold = true }", "a target is exactly one of large_share, budget_per_day, accuracy_of_large; none is given"),
]


@pytest.mark.parametrize(("target", "fault"), TARGETS)
def test_a_target(target: str, fault: str, tmp_path: Path) -> None:
    text = embedded_profile().read_text()
    text = text.replace("../../engine", str(embedded_profile().parents[2] / "engine"))
    text = text.replace('"calibrations/', f'"{embedded_profile().parent}/calibrations/')
    text = text.replace("target = { large_share = 0.25 }", f"target = {target}")
    file = tmp_path / "policy.toml"
    file.write_text(
        f"{text}\n[prices]\nsmall = {{ input = 1.0, output = 1.0 }}\nlarge = {{ input = 9.0, output = 9.0 }}\n"
    )
    if not fault:
        load(file)
        return
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert any(fault in str(problem) for problem in caught.value.problems), caught.value
