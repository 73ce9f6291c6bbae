import json

import pytest

from config.model.settings import EngineSettings, KVSettings
from config.model.table import Bytes
from engine.core.engine import Engine
from engine.errors import EngineError, ModelError
from engine.text.tokenizer import Tokenizer
from tests.engine import tiny_tokenizers
from tests.engine.driving import run, submit
from tests.parity import models


def test_a_directory_that_is_none_is_named(tmp_path):
    with pytest.raises(ModelError, match="does not exist") as caught:
        Engine.load(EngineSettings(model=tmp_path / "nothing"), "small")
    assert caught.value.code == "model_not_found"


def test_a_model_directory_answers_in_text(tmp_path):
    models.write_model("llama", tmp_path)
    tiny_tokenizers.byte_level().save(str(tmp_path / "tokenizer.json"))
    heard = []
    engine = Engine.load(EngineSettings(model=tmp_path, kv=KVSettings(memory=Bytes(2**21))), "small", heard.append)
    answer = run(engine, submit(0, Tokenizer.load(tmp_path).encode("abc"), max_tokens=20))[0]
    engine.close()
    assert len(answer.tokens) == 20
    assert answer.text == Tokenizer.load(tmp_path).decode(answer.tokens)


def test_settings_that_cannot_work_are_refused_at_load(tmp_path):
    models.write_model("llama", tmp_path)
    tiny_tokenizers.byte_level().save(str(tmp_path / "tokenizer.json"))
    settings = EngineSettings(model=tmp_path, kv=KVSettings(memory=Bytes(2**21)), max_step_tokens=8)
    with pytest.raises(EngineError, match="max_running"):
        Engine.load(settings, "small")


def test_every_end_token_that_the_files_name_ends_an_answer(tmp_path):
    """generation_config.json may name several end tokens, config.json others."""
    models.write_model("llama", tmp_path)
    tiny_tokenizers.byte_level().save(str(tmp_path / "tokenizer.json"))
    settings = EngineSettings(model=tmp_path, kv=KVSettings(memory=Bytes(2**21)))

    def answer(**params):
        engine = Engine.load(settings, "small")
        try:
            return run(engine, submit(0, [5, 6, 7], max_tokens=30, **params))[0]
        finally:
            engine.close()

    said = list(dict.fromkeys(answer().tokens))
    assert len(said) > 5, "too few different tokens prove nothing"
    generation = tmp_path / "generation_config.json"
    for ends, in_config, last in (((said[5], said[2]), None, said[2]), ((said[4],), said[3], said[3])):
        generation.write_text(json.dumps({"eos_token_id": list(ends), "temperature": 0.1, "top_k": 1}))
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**config, "eos_token_id": in_config}))
        ended = answer(ignore_eos=False)
        assert (ended.tokens[-1], ended.finish.reason, ended.finish.stop) == (last, "stop", None)
        assert ended.text == Tokenizer.load(tmp_path).decode(ended.tokens[:-1])
