"""A running process changes its policy: by a changed file, by SIGHUP, and by the admin API."""

import json
import re
import shutil
import signal
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.process import GatewayProcess, until

BODY = {"model": "small", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}


def ask(process: GatewayProcess) -> dict[str, str]:
    """The response's headers."""
    asked = urllib.request.Request(f"{process.url}/v1/chat/completions", json.dumps(BODY).encode())
    asked.add_header("content-type", "application/json")
    with urllib.request.urlopen(asked) as response:
        return dict(response.headers)


@pytest.fixture
def own(config: Path, tmp_path: Path) -> Path:
    """A configuration that the test may change."""
    for model in ("small", "large"):
        shutil.copytree(config.parent / model, tmp_path / model)
    file = tmp_path / "config.toml"
    file.write_text(config.read_text())
    return file


def test_a_policy_changes_under_a_running_process(own: Path) -> None:
    process = GatewayProcess("--config", str(own), "--admin-port", "0", log=own.parent / "live.log")
    try:
        first = ask(process)
        assert first["x-penstock-route"] == "small"
        text = own.read_text()
        # The file is watched.
        own.write_text(text.replace('name = "small"', 'name = "watched"', 1))
        until(lambda: ask(process)["x-penstock-route"] == "watched")
        # A bad one is refused, and said so; what was good serves on.
        own.write_text(text.replace("use = { ladder", "use = { lader", 1))
        process.signal(signal.SIGHUP)
        until(lambda: "policy_refused" in process.log)
        assert "did you mean 'ladder'?" in process.log
        after = ask(process)
        assert after["x-penstock-route"] == "watched"
        assert after["x-penstock-policy"] != first["x-penstock-policy"]
        # By the admin API, which knows why the last request went where it went.
        own.write_text(text)
        found = re.search(r"admin API on (http://\S+)/admin", process.said())
        assert found is not None
        with urllib.request.urlopen(f"{found[1]}/admin/policy/reload", b"") as response:
            assert json.loads(response.read())["policy"] == first["x-penstock-policy"]
        with urllib.request.urlopen(f"{found[1]}/admin/decisions/{after['x-request-id']}") as response:
            record = json.loads(response.read())
        assert (record["plan"]["route"], record["policy"]) == ("watched", after["x-penstock-policy"])
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    finally:
        process.end()
    assert "Traceback" not in process.log
