"""The examples in docs/operations.md can be loaded."""

import re
from pathlib import Path

import yaml

from config.load import parse_settings
from tests.actors.configuration import CONFIG
from tests.config.examples import with_hashes
from tests.paths import DOCS

DOCUMENT = DOCS / "operations.md"


def test_its_examples_fit_into_a_file() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    text = CONFIG + with_hashes("\n".join(blocks)).replace('["chat"]', '["small"]')
    settings = parse_settings(text, Path("/nowhere/service.toml"))
    assert settings.admin.enabled
    assert settings.shadows[0].to == "large"
    assert settings.metrics.keys[0].id == "prometheus"


def test_prometheus_can_read_its_part() -> None:
    """Fields and types are those in Prometheus's documentation of `scrape_config`."""
    (block,) = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (job,) = yaml.safe_load(block)["scrape_configs"]
    assert set(job) == {"job_name", "scrape_interval", "metrics_path", "authorization", "static_configs"}
    assert job["metrics_path"] == "/metrics"
    assert set(job["authorization"]) == {"type", "credentials_file"}
    assert all(isinstance(target, str) and "/" not in target for target in job["static_configs"][0]["targets"])
