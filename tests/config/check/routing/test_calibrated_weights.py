"""A calibration is valid only for the weights that it was made for, not for others of the same name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from config import model_digest as digests
from config.load import load
from config.model.settings import EngineSettings
from config.model_digest import model_digest, served_digest
from config.problems.errors import ConfigError
from config.profiles import embedded_profile
from tests.paths import ZOO_MODELS

MODELS = ZOO_MODELS


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """The embedded profile, with copies of its models and its calibration."""
    for name in ("small", "large"):
        shutil.copytree(MODELS / name, tmp_path / name)
    shutil.copytree(embedded_profile().parent / "calibrations", tmp_path / "calibrations")
    text = embedded_profile().read_text().replace("../../engine/zoo/models/", "")
    (tmp_path / "policy.toml").write_text(text)
    return tmp_path / "policy.toml"


def _flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a bit of the small model": lambda folder: _flip(folder / "small/model.safetensors", -5),
    "the large model is another": lambda folder: shutil.copy(
        folder / "small/model.safetensors", folder / "large/model.safetensors"
    ),
    "another tokenizer": lambda folder: _flip(folder / "large/tokenizer.json", 100),
    "another scale": lambda folder: (folder / "small/config.json").write_text(
        (folder / "small/config.json").read_text().replace('"rms_norm_eps": 1e-05', '"rms_norm_eps": 1e-06') + " "
    ),
    "more weights": lambda folder: shutil.copy(
        folder / "small/model.safetensors", folder / "small/model-2.safetensors"
    ),
    "quantized on load": lambda folder: (folder / "policy.toml").write_text(
        (folder / "policy.toml").read_text().replace('model = "small"', 'model = "small"\nquantization = "int8"')
    ),
}


def test_the_weights_that_it_was_made_for_are_good(served: Path) -> None:
    assert load(served, made_by=lambda _: None).warnings == ()


@pytest.mark.parametrize("change", CHANGES)
def test_other_weights_under_the_same_name_are_an_error(change: str, served: Path) -> None:
    CHANGES[change](served.parent)
    with pytest.raises(ConfigError) as caught:
        load(served)
    (problem,) = caught.value.problems
    assert problem.where == "cascades.thrifty.defer.calibration"
    assert "was made for other weights of" in problem.message
    assert problem.line


def test_a_calibration_that_is_about_to_be_made_is_no_problem(served: Path) -> None:
    _flip(served.parent / "small/model.safetensors", -5)
    load(served, calibrated=False)


def test_a_calibration_without_digests_is_not_compared(served: Path) -> None:
    file = served.parent / "calibrations/embedded.json"
    made = json.loads(file.read_text())
    file.write_text(json.dumps({**made, "small_digest": "", "large_digest": ""}))
    _flip(served.parent / "small/model.safetensors", -5)
    load(served)


def test_a_digest_follows_the_files(tmp_path: Path) -> None:
    copy = tmp_path / "small"
    shutil.copytree(MODELS / "small", copy)
    assert model_digest(copy) == model_digest(MODELS / "small") != model_digest(MODELS / "large")
    plain = EngineSettings(model=copy)
    assert served_digest(plain) == model_digest(copy)
    kinds = [EngineSettings(model=copy, quantization="int4", quantization_group=group) for group in (None, 32)]
    assert len({served_digest(each) for each in (plain, *kinds)}) == 3


def test_of_large_files_every_tensor_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces are taken of each, wherever it changed as a whole."""
    monkeypatch.setattr(digests, "_MAX_FULL_BYTES", 0)
    copy = tmp_path / "small"
    shutil.copytree(MODELS / "small", copy)
    file = copy / "model.safetensors"
    data = file.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    entries = json.loads(data[8:start])
    entries.pop("__metadata__", None)
    first = model_digest(copy)
    for entry in entries.values():
        begin, end = entry["data_offsets"]
        file.write_bytes(data[: start + begin] + b"\x01" * (end - begin) + data[start + end :])
        assert model_digest(copy) != first


def test_a_file_that_is_no_safetensors_has_a_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_MAX_FULL_BYTES", 0)
    for name, content in (("config.json", b"{}"), ("tokenizer.json", b"{}"), ("model.safetensors", b"\x05\0\0")):
        (tmp_path / name).write_bytes(content)
    assert model_digest(tmp_path)
