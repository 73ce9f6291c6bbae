"""The adapters that an engine begins with."""

from pathlib import Path

import pytest

from engine.core.adapter_loading import load_adapters
from engine.core.engine import Engine
from engine.errors import EngineError
from engine.lora.adapters import WantedAdapter
from engine.testing.fake_runner import FakeRunner
from tests.engine.driving import engine_settings
from tests.engine.tiny_tokenizers import byte_level_tokenizer


@pytest.mark.parametrize("must", [True, False])
def test_one_that_cannot_be_read(tmp_path: Path, must: bool) -> None:
    (tmp_path / "adapter_model.safetensors").write_text("legal")
    engine = Engine(FakeRunner(), byte_level_tokenizer(), engine_settings(), name="small", seed=7)
    wanted, said = [WantedAdapter("none", 1, tmp_path / "none"), WantedAdapter("legal", 4, tmp_path)], list[str]()
    if must:
        with pytest.raises(EngineError, match="its adapter 'none' cannot be loaded"):
            load_adapters(engine, wanted, said.append, must=True)
        return
    load_adapters(engine, wanted, said.append, must=False)
    assert [(each.name, each.version) for each in engine.adapters] == [("legal", 4)]
    assert said[1].startswith("its adapter 'none' cannot be loaded")
