"""The command line's words; what it serves is tested end to end."""

import json
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from config.model.tenancy import KeySettings
from config.profiles import embedded_profile
from gateway.cli.main import main
from policies.admission.keys import KeyGrant, KeyRing, hash_key
from tests.patience import PATIENCE_S

AS_SYSTEMD = """
import ast, os, sys
passed = ast.literal_eval(sys.argv[1])
for place, copy in enumerate([os.dup(each) for each in passed], start=3):
    os.dup2(copy, place)
os.environ |= {"LISTEN_FDS": str(len(passed)), "LISTEN_PID": str(os.getpid())}
from gateway.cli.main import main
sys.exit(main(sys.argv[2:]))
"""
"""Its first argument is a list of descriptors, which are passed as systemd passes those of a socket unit."""


def complaint(capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> str:
    assert main(arguments) == status
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert re.fullmatch(r"penstock \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize("arguments", [[], ["serv"], ["serve", "--port", "x"], ["keys"]])
def test_what_cannot_be_meant_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)


@pytest.mark.parametrize("command", [["check"], ["policy", "check"]])
def test_check(capsys: pytest.CaptureFixture[str], tmp_path: Path, command: list[str]) -> None:
    assert main([*command, str(embedded_profile())]) == 0
    assert "valid: engines 2" in capsys.readouterr().out
    bad = tmp_path / "bad.toml"
    bad.write_text(embedded_profile().read_text().replace("port = 8080", 'prot = 8080\nkeep_alive = "5 parsecs"'))
    said = complaint(capsys, 2, *command, str(bad))
    assert f"{bad}:6:1: server.prot" in said
    assert "did you mean 'port'?" in said
    assert f"{bad}:7:" in said


def test_the_document_of_the_api(capsys: pytest.CaptureFixture[str]) -> None:
    documents = []
    for arguments in ([], ["--keyless"]):
        assert main(["openapi", *arguments]) == 0
        documents.append(json.loads(capsys.readouterr().out))
    keyed, keyless = documents
    assert "/v1/chat/completions" in keyed["paths"]
    assert ({} in keyed["security"], {} in keyless["security"]) == (False, True)


def test_check_prints_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["check", "--json", str(embedded_profile())]) == 0
    assert json.loads(capsys.readouterr().out) == []
    bad = tmp_path / "bad.toml"
    bad.write_text('schema = 1\n[tiers.gold]\n[tenants.anonymous]\ntier = "glod"\n')
    assert main(["check", "--json", str(bad)]) == 2
    found = json.loads(capsys.readouterr().out)
    assert {
        "file": str(bad),
        "line": 4,
        "column": 8,
        "where": "tenants.anonymous.tier",
        "severity": "error",
        "message": "there is no tier 'glod'",
        "expected": "one of: gold",
        "suggestion": "gold",
    } in found
    assert {each["where"] for each in found} == {"tenants.anonymous.tier", "engines", "models", "routes"}


def test_warnings_are_shown_and_refuse_nothing_unless_asked_to(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "idle.toml"
    models = str(embedded_profile().parents[2] / "engine" / "zoo" / "models")
    text = embedded_profile().read_text().replace("../../engine/zoo/models", models)
    text = text.replace('"calibrations/', f'"{embedded_profile().parent}/calibrations/')
    path.write_text(f"{text}\n[[ladders.idle]]\nto = 'small'\n")
    line = text.count("\n") + 2
    for options, status in (([], 0), (["--strict"], 2)):
        assert main(["policy", "check", *options, str(path)]) == status
        said = capsys.readouterr()
        assert f"{path}:{line}:11: warning: ladders.idle: nothing uses the ladder 'idle'" in said.err
        assert "warnings 1" in said.out
    assert main(["policy", "check", "--json", str(path)]) == 0
    assert [each["severity"] for each in json.loads(capsys.readouterr().out)] == ["warning"]


def test_check_looks_for_the_models(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "config.json").write_text("{}")
    bad = tmp_path / "bad.toml"
    text = embedded_profile().read_text().replace("../../engine/zoo/models/", "")
    bad.write_text(text.replace('"calibrations/', f'"{embedded_profile().parent}/calibrations/'))
    said = complaint(capsys, 2, "check", str(bad))
    assert f"engines.small.model: there is no model directory {tmp_path / 'small'}" in said
    assert f"engines.large.model: {tmp_path / 'large' / 'tokenizer.json'} cannot be read: No such file" in said
    assert f"engines.large.model: {tmp_path / 'large'} holds no *.safetensors file" in said


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_missing_file(capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str) -> None:
    option = ["--config"] if command == "serve" else []
    said = complaint(capsys, 2, command, *option, str(tmp_path / "none.toml"))
    assert "none.toml" in said
    assert "No such file" in said


def test_keys(capsys: pytest.CaptureFixture[str]) -> None:
    for options, name in (([], r"[0-9a-f]+"), (["--id", "web-1"], "web-1")):
        assert main(["keys", "new", "--tenant", "shop", *options]) == 0
        out = capsys.readouterr().out
        assert "Add to the configuration (it also needs a [tenants.NAME] table):" in out
        raw = re.search(rf"penstock_{name}_[\w-]+", out)
        assert raw is not None
        (entry,) = tomllib.loads(out[out.index("[[keys]]") :])["keys"]
        ring = KeyRing([KeySettings(**entry)])
        assert isinstance(grant := ring.authenticate(raw[0], 0.0), KeyGrant)
        assert grant.tenant == "shop"
        assert ring.authenticate(raw[0] + "x", 0.0) == "unknown"
    assert "--id" in complaint(capsys, 2, "keys", "new", "--tenant", "shop", "--id", "a_b")


def test_admin_keys_are_of_another_class(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "new", "--admin", "--id", "ops"]) == 0
    out = capsys.readouterr().out
    assert "Add to the configuration:" in out
    raw = re.search(r"penstock-admin_ops_[\w-]+", out)
    assert raw is not None
    (entry,) = tomllib.loads(out[out.index("[[admin.keys]]") :])["admin"]["keys"]
    assert entry == {"id": "ops", "hash": hash_key(raw[0])}
    with pytest.raises(SystemExit):
        main(["keys", "new", "--admin", "--tenant", "shop"])


def test_a_scrapers_key_is_of_a_class_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "new", "--metrics", "--id", "prometheus"]) == 0
    out = capsys.readouterr().out
    raw = re.search(r"penstock-metrics_prometheus_[\w-]+", out)
    assert raw is not None
    (entry,) = tomllib.loads(out[out.index("[[metrics.keys]]") :])["metrics"]["keys"]
    assert entry == {"id": "prometheus", "hash": hash_key(raw[0])}


def config_with(tmp_path: Path, model: Path) -> Path:
    file = tmp_path / "one.toml"
    file.write_text(
        f"schema = 1\n[engines.one]\nmodel = {json.dumps(str(model))}\n[models.one]\n"
        '[[routes]]\nname = "all"\nuse = { ladder = "one" }\n[[ladders.one]]\nto = "one"\n'
    )
    return file


def test_an_unreadable_model_directory(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = config_with(tmp_path, tmp_path / "model")
    said = complaint(capsys, 1, "serve", "--config", str(config), "--port", "0")
    assert f"engine 'one': there is no model directory {tmp_path / 'model'}" in said
    (tmp_path / "model").mkdir()
    said = complaint(capsys, 1, "serve", "--config", str(config), "--port", "0")
    assert f"{tmp_path / 'model' / 'config.json'} cannot be read: No such file" in said


def test_ports_and_hosts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (model / name).write_text("{}")
    config = str(config_with(tmp_path, model))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = complaint(capsys, 1, "serve", "--config", config, "--port", port)
        assert f"port {port} on 127.0.0.1 is in use" in said
    assert "--port must be" in complaint(capsys, 2, "serve", "--config", config, "--port", "70000")
    assert "has no [[keys]]" in complaint(capsys, 2, "serve", "--config", config, "--host", "0.0.0.0")


@pytest.mark.parametrize("of", ["server", "admin"])
def test_a_passed_socket_that_others_reach_needs_keys(tmp_path: Path, of: str) -> None:
    config = tmp_path / "penstock.toml"
    assert main(["init", "in-front-of-vllm", str(config)]) == 0
    config.write_text(f"{config.read_text()}\n[admin]\nenabled = true\n")
    hosts = ["0.0.0.0"] if of == "server" else ["127.0.0.1", "0.0.0.0"]
    listeners = [socket.create_server((host, 0)) for host in hosts]
    passed = [listener.fileno() for listener in listeners]
    done = subprocess.run(
        [sys.executable, "-c", AS_SYSTEMD, repr(passed), "serve", "--config", str(config)],
        pass_fds=passed,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    for listener in listeners:
        listener.close()
    assert done.returncode == 2, done.stderr
    assert f"the socket unit: {of}.host: '0.0.0.0' can be reached from other machines" in done.stderr


def test_models_that_are_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert str(tmp_path) in complaint(capsys, 1, "engine", "bench", str(tmp_path))
    assert "--threads" in complaint(capsys, 2, "engine", "bench", str(tmp_path), "--threads", "0")
    assert "small or large" in complaint(capsys, 2, "zoo", "train", "huge")
    assert "--questions" in complaint(capsys, 2, "zoo", "eval", "--questions", "0")


def test_the_edge_never_loads_torch() -> None:
    code = (
        "import sys, gateway.cli.main, gateway.engine_factories, gateway.endpoints.routes, gateway.app;"
        "sys.exit(', '.join(sorted({'torch', 'transformers', 'numba'} & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "schema"]) == 0
    assert set(json.loads(capsys.readouterr().out)["required"]) == {"schema", "models", "routes"}
    assert main(["policy", "schema", "--part"]) == 0
    assert json.loads(capsys.readouterr().out)["required"] == ["schema"]


def test_quantize_refuses_what_makes_no_sense(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    for words in (["--to", "int8", "--group", "64"], ["--to", "int4", "--group", "3"]):
        assert "is for int4 only" in complaint(capsys, 2, "engine", "quantize", "x", "--out", out, *words)
    said = complaint(capsys, 1, "engine", "quantize", str(tmp_path / "none"), "--to", "int8", "--out", out)
    assert "does not exist" in said
    assert not (tmp_path / "out").exists()


def test_quantize_writes_a_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from engine.zoo.train import MODELS

    assert main(["engine", "quantize", str(MODELS / "small"), "--to", "int4", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "29 matrices in int4 in groups of 64" in said.out
    assert "quantizing model.layers.3.mlp.up_proj" in said.err
    assert (tmp_path / "out" / "tokenizer_config.json").is_file()


@pytest.mark.parametrize("arguments", [["check"], ["check", "--json"], ["policy", "explain", "--config"]])
def test_a_full_disk_is_told_in_a_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gateway.cli.main", *arguments, str(embedded_profile())],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "penstock: the output cannot be written: No space left on device"
    assert "Traceback" not in done.stderr
