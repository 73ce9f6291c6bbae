"""The first configurations that are written for a person: each is good as it stands."""

from pathlib import Path

import pytest

from config.load import load_settings
from config.profiles import STARTERS
from engine.zoo.train import MODELS
from gateway.cli.main import main
from policies.admission.keys import KeyGrant, KeyRing

WORDS = {
    "one-model": ["--model", str(MODELS / "small")],
    "small-and-large": ["--small", str(MODELS / "small"), "--large", str(MODELS / "large")],
    "in-front-of-vllm": [],
}


@pytest.mark.parametrize("kind", STARTERS)
@pytest.mark.parametrize("tenant", [None, "acme", 'a b\'s "team"'])
def test_what_is_written_is_good(
    kind: str, tenant: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "penstock.toml"
    assert main(["init", kind, str(file), *WORDS[kind], *(["--tenant", tenant] if tenant else [])]) == 0
    told = capsys.readouterr().out
    assert main(["check", "--strict", str(file)]) == 0
    assert f"penstock serve --config {file}" in told
    settings = load_settings(file)
    if tenant is None:
        assert not settings.keys
    else:
        raw = next(line for line in told.splitlines() if "shown only once" in line).split()[-1]
        assert KeyRing(settings.keys).authenticate(raw, 0.0) == KeyGrant(tenant, settings.keys[0].id)


@pytest.mark.parametrize(
    ("words", "upstream"),
    [
        (["--model", "llama", "--url", "http://10.0.0.9:9/v1"], {"model": "llama", "urls": ("http://10.0.0.9:9/v1",)}),
        ([], {"model": None, "urls": ("http://127.0.0.1:8000/v1",)}),
    ],
)
def test_an_upstream_is_as_was_said(words: list[str], upstream: dict[str, object], tmp_path: Path) -> None:
    file = tmp_path / "penstock.toml"
    assert main(["init", "in-front-of-vllm", str(file), *words]) == 0
    found = load_settings(file).upstreams["vllm"]
    assert {name: getattr(found, name) for name in upstream} == upstream


@pytest.mark.parametrize(
    ("kind", "folders"), [("one-model", ["models/mine"]), ("small-and-large", ["models/small", "models/large"])]
)
def test_a_model_that_is_not_there_yet_is_the_first_step(
    kind: str, folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = tmp_path / "before.toml", tmp_path / "after.toml"
    assert main(["init", kind, str(before)]) == 0
    assert f"first: put your model's folder into `model` in {before}\nnext: " in capsys.readouterr().out
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    assert main(["init", kind, str(after)]) == 0
    assert "first:" not in capsys.readouterr().out


def test_the_upstreams_key_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    file = tmp_path / "penstock.toml"
    assert main(["init", "in-front-of-vllm", str(file), "--key-env", "MY_KEY"]) == 0
    key = load_settings(file).upstreams["vllm"].key
    assert key is not None
    assert key.env == "MY_KEY"


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "penstock.toml"
    file.write_text("mine")
    assert main(["init", "one-model", str(file)]) == 1
    assert file.read_text() == "mine"
    assert "exists already" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "one-model", str(tmp_path / "none" / "penstock.toml")]) == 1
    assert "cannot be written: No such file or directory" in capsys.readouterr().err
