"""Adapters with the official client, unmodified, against a real process: by name, by policy, loaded while it serves."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import openai
import pytest
import torch
from safetensors.torch import save_file

from tests.e2e.conftest import CONFIG, write_model
from tests.e2e.process import GatewayProcess
from tests.patience import PATIENCE_S

ADAPTERS = CONFIG.replace("[models.small]", "[models.small]\nadapters = true").replace(
    '[[ladders.large-first]]\nto = "large"', '[[ladders.large-first]]\nto = "small"\nadapter = "legal"'
)


def write_adapter(model: Path, folder: Path, seed: int) -> Path:
    """On q and down of every layer, as PEFT names them."""
    shape = msgspec.json.decode((model / "config.json").read_bytes())
    hidden, inner = shape["hidden_size"], shape["intermediate_size"]
    queries = shape["num_attention_heads"] * (shape.get("head_dim") or hidden // shape["num_attention_heads"])
    torch.manual_seed(seed)
    tensors = {}
    for layer in range(shape["num_hidden_layers"]):
        for module, inputs, outputs in (("self_attn.q_proj", hidden, queries), ("mlp.down_proj", inner, hidden)):
            name = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(4, inputs)
            tensors[f"{name}.lora_B.weight"] = torch.randn(outputs, 4)
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"]}
    (folder / "adapter_config.json").write_bytes(msgspec.json.encode(config))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("adapters")
    write_model(found / "small", 1)
    write_model(found / "large", 2)
    for seed, name in enumerate(("legal", "newer", "sql"), 1):
        write_adapter(found / "small", found / name, seed)
    (found / "config.toml").write_text(f'{ADAPTERS}\n[engines.small.adapters.legal]\npath = "legal"\n')
    return found


@pytest.fixture(scope="module", params=["thread", pytest.param("process", marks=pytest.mark.slow)])
def served(folder: Path, request: pytest.FixtureRequest) -> Iterator[GatewayProcess]:
    config = folder / f"{request.param}.toml"
    text = (folder / "config.toml").read_text()
    config.write_text(text.replace("[engines.small]\n", f'[engines.small]\nhost = "{request.param}"\n'))
    process = GatewayProcess("--config", str(config), "--admin-port", "0", log=folder / "log")
    try:
        yield process
    finally:
        process.end()


@pytest.fixture
def client(served: GatewayProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def ask(client: openai.OpenAI, model: str) -> tuple[str, str | None, str | None]:
    """What it says, the adapter that the head names, and the one that the body names."""
    answer = client.chat.completions.with_raw_response.create(
        model=model,
        messages=[{"role": "user", "content": "What is 17 + 25?"}],
        max_tokens=10,
        temperature=0,
        extra_body={"ignore_eos": True},
    )
    body = answer.parse()
    assert body.model_extra is not None
    assert body.model == model
    return (
        body.choices[0].message.content or "",
        answer.headers.get("x-penstock-adapter"),
        body.model_extra["penstock"]["adapter"],
    )


def admin(served: GatewayProcess, method: str, path: str, body: object = None) -> httpx.Response:
    address = re.search(r"admin API on (\S+)/admin", served.said())
    assert address is not None
    return httpx.request(method, address[1] + path, json=body, timeout=PATIENCE_S)


def test_by_name_and_by_policy(client: openai.OpenAI) -> None:
    plain, legal, by_policy = (ask(client, model) for model in ("small", "small:legal", "large"))
    assert plain[1:] == (None, None)
    assert legal[1:] == by_policy[1:] == ("legal", "legal@1")
    assert plain[0] != legal[0] == by_policy[0]
    with pytest.raises(openai.NotFoundError, match="small:legal"):
        ask(client, "small:leagl")


def test_loaded_and_unloaded_while_answers_run(client: openai.OpenAI, served: GatewayProcess, folder: Path) -> None:
    wanted = ask(client, "small:legal")[0]
    results: list[tuple[str, str | None, str | None]] = []
    faults: list[Exception] = []

    def keep_asking() -> None:
        try:
            results.extend(ask(client, "small:legal") for _ in range(12))
        except Exception as error:  # noqa: BLE001
            faults.append(error)

    clients = [threading.Thread(target=keep_asking) for _ in range(3)]
    for each in clients:
        each.start()
    for name in ("newer", "legal", "newer", "legal"):
        answer = admin(served, "POST", "/admin/engines/small/adapters/legal", {"path": str(folder / name)})
        assert answer.status_code == 200, answer.text
    for each in clients:
        each.join()
    assert not faults
    assert len(results) == 36
    by_version: dict[str, set[str]] = {}
    for text, _, version in results:
        by_version.setdefault(str(version), set()).add(text)
    assert all(len(texts) == 1 for texts in by_version.values())
    assert ask(client, "small:legal")[0] == wanted
    assert admin(served, "POST", "/admin/engines/small/adapters/sql", {"path": str(folder / "sql")}).json()["rank"] == 4
    assert [each.id for each in client.models.list()] == ["penstock", "small", "small:legal", "small:sql", "large"]
    assert ask(client, "small:sql")[2] == "sql@1"
    left = admin(served, "DELETE", "/admin/engines/small/adapters/sql").json()["adapters"]
    assert [(each["name"], each["version"], each["path"]) for each in left] == [("legal", 5, str(folder / "legal"))]
    with pytest.raises(openai.NotFoundError):
        ask(client, "small:sql")
    broken = admin(served, "POST", "/admin/engines/small/adapters/legal", {"path": str(folder / "small")})
    assert (broken.status_code, broken.json()["error"]["code"]) == (400, "adapter_files")
    assert "adapter_config.json" in broken.json()["error"]["message"]
    assert ask(client, "small:legal")[2] == "legal@5"
