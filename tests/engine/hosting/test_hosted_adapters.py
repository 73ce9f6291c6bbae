"""Adapters in an engine's own process: read on request, installed by number, kept no longer than needed."""

from pathlib import Path
from typing import Any

import pytest

from engine.core.engine import Engine
from engine.hosting.hosted_adapters import HostedAdapters
from engine.hosting.wire import HostAdapterRead, InstallAdapter, ReadAdapter
from engine.testing.fake_runner import FakeRunner
from tests.engine.driving import engine_settings
from tests.engine.tiny_tokenizers import byte_level_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "legal").mkdir()
    (tmp_path / "legal" / "adapter_model.safetensors").write_text("legal")
    return tmp_path / "legal"


def made() -> tuple[Engine, HostedAdapters, list[Any]]:
    engine = Engine(FakeRunner(), byte_level_tokenizer(), engine_settings(), name="small", seed=7)
    posts: list[Any] = []
    return engine, HostedAdapters(engine, posts.append), posts


def test_what_was_read_is_installed_once(folder: Path) -> None:
    engine, adapters, posts = made()
    adapters.read(ReadAdapter(3, str(folder)))
    prepared = engine.read_adapter(folder)
    assert posts == [HostAdapterRead(3, prepared.digest, prepared.rank, prepared.memory_bytes)]
    command = adapters.installed(InstallAdapter("legal", 2, str(folder), 3))
    assert command is not None
    assert (command.adapter.name, command.adapter.version, command.adapter.path) == ("legal", 2, folder)
    assert command.adapter.prepared.digest == prepared.digest
    assert adapters.installed(InstallAdapter("legal", 3, str(folder), 3)) is None


def test_a_folder_that_cannot_be_read_says_why(folder: Path) -> None:
    _, adapters, posts = made()
    adapters.read(ReadAdapter(1, str(folder / "none")))
    assert (posts[0].number, posts[0].code) == (1, "adapter_files")
    assert "holds no adapter" in posts[0].message
    assert adapters.installed(InstallAdapter("legal", 1, str(folder), 1)) is None


def test_only_the_latest_wait_to_be_installed(folder: Path) -> None:
    _, adapters, _ = made()
    for number in range(20):
        adapters.read(ReadAdapter(number, str(folder)))
    kept = [adapters.installed(InstallAdapter("legal", 1, str(folder), number)) for number in range(20)]
    assert [number for number, each in enumerate(kept) if each is not None] == list(range(12, 20))
