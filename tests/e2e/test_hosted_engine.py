"""An engine with `host = "process"` in a running gateway: its death costs its own answers, and nothing else."""

import json
import os
import signal
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.process import GatewayProcess, until
from tests.e2e.test_process import BODY, begin_stream, rest
from tests.e2e.test_restarts import ask

TEXT = {"messages": [{"role": "user", "content": "What is in the box?"}], "temperature": 0, "max_tokens": 24}


@pytest.fixture
def hosted(config: Path, tmp_path: Path) -> Path:
    """The small engine in a process of its own, and once more in a thread."""
    text = config.read_text()
    for name in ("small", "large"):
        text = text.replace(f'model = "{name}"\nkv', f'model = "{config.parent / name}"\nkv')
    small = text.index("[engines.small]")
    table = text[small : text.index("[engines.large]")]
    text = text.replace(table, table.replace("kv =", 'host = "process"\nkv =') + table.replace("small]", "twin]"))
    text += '[[ladders.twin-first]]\nto = "twin"\n[models.twin]\n'
    text = text.replace(
        '[[routes]]\nname = "large"',
        '[[routes]]\nname = "twin"\nwhen = { model = ["twin"] }\nuse = { ladder = "twin-first" }\n'
        '[[routes]]\nname = "large"',
    )
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def child_of(process: GatewayProcess) -> int:
    """The engine's process."""
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                parent = int((each / "stat").read_text().rsplit(")", 1)[1].split()[1])
                if parent == process.pid and b"engine.hosting" in (each / "cmdline").read_bytes():
                    return int(each.name)
            except OSError:
                continue
    return 0


def test_its_answers_are_a_threads_and_its_death_is_its_own(hosted: Path, tmp_path: Path) -> None:
    process = GatewayProcess("--config", str(hosted), log=tmp_path / "log")
    try:
        _, _, ours = ask(process, **TEXT, model="small")
        _, _, theirs = ask(process, **TEXT, model="twin")
        assert ours["choices"][0]["message"] == theirs["choices"][0]["message"]
        schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["abc", "abd"]}}}
        both = [ask(process, **TEXT, model=name, response_format=schema)[2] for name in ("small", "twin")]
        assert both[0]["choices"][0]["message"] == both[1]["choices"][0]["message"]
        assert json.loads(both[0]["choices"][0]["message"]["content"]) in {"abc", "abd"}

        child = child_of(process)
        with begin_stream(process, {**BODY, "model": "small"}) as stream:
            os.kill(child, signal.SIGKILL)
            # The next rung goes on with it.
            ends = rest(stream)
            assert ends.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
            assert b'"why":"engine_process_lost"' in ends
        # Another engine's work goes on, and this one comes back in another process.
        assert ask(process, **TEXT, model="twin")[0] == 200
        until(lambda: ask(process, **TEXT, model="small")[0] == 200)
        assert child_of(process) not in {0, child}
        assert "was killed by SIGKILL" in process.log
        child = child_of(process)
        with urllib.request.urlopen(f"{process.url}/readyz") as response:
            assert json.load(response)["status"] == "ready"
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert not Path(f"/proc/{child}").exists()
    finally:
        process.end()
