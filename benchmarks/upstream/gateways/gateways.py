"""The compared gateways: how each is started in front of the scripted upstream, with a key, on the quietest log level.

Each checks or passes on a bearer token, gets one model, and has its own defaults otherwise. Penstock also has a tenant
with quotas, a ledger in a file, a fair queue and breakers.
"""

import json
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from benchmarks.upstream.gateways.processes import Command
from benchmarks.upstream.load.client import Target
from benchmarks.upstream.load.script import MODEL
from policies.admission.keys import RANDOM_BYTES, new_key

_KEY = "sk-client-0123456789abcdef"
_UPSTREAM_KEY = "sk-upstream-0123456789abcdef"

_PENSTOCK = """
schema = 1

[server]
port = {port}
max_connections = 8192
connections_per_key = 8192
messages_per_second = 1_000_000

[ledger]
path = {ledger}

[log]
requests = false

[upstreams.vllm]
urls = ["http://127.0.0.1:{upstream_port}/v1"]
model = "{model}"
key = {{ file = {key_file} }}
concurrent = 8192
supports = ["sampling"]
stream = "as_asked"

[models.{model}]

[[keys]]
id = {key_id}
tenant = "acme"
hash = {key_hash}

[tenants.acme]
tier = "standard"
tokens = {{ per_minute = 2_000_000_000, per_day = 2_000_000_000_000 }}
requests_per_minute = 10_000_000

[tiers.standard]
slo = {{ ttft = "2s", itl = "100ms" }}
queue = {{ wait = "30s", requests = 8192, tokens = 4_000_000_000, bytes = "1GiB" }}

[[routes]]
name = "all"
use = {{ ladder = "vllm-first" }}
deadlines = {{ ttft = "60s", stall = "60s", total = "1h" }}

[[ladders.vllm-first]]
to = "vllm"
retries = 1
"""


class GatewayAbsentError(Exception):
    """A gateway that cannot be measured here; the message says why."""


class Place(msgspec.Struct, frozen=True):
    """Where a gateway is started."""

    port: int
    spare_port: int
    """For what a gateway serves beside its API."""
    upstream_port: int
    folder: Path
    """An empty one, for its files."""
    peers: Path
    """Where the peers are installed."""


class Gateway(msgspec.Struct, frozen=True):
    """How one gateway is started and asked."""

    command: Command
    target: Target
    version: str


def _penstock(place: Place) -> Gateway:
    key = new_key("acme", secrets.token_bytes(RANDOM_BYTES), "bench")
    key_file = place.folder / "upstream-key"
    key_file.write_text(_UPSTREAM_KEY)
    config = place.folder / "penstock.toml"
    config.write_text(
        _PENSTOCK.format(
            port=place.port,
            ledger=json.dumps(str(place.folder / "ledger.sqlite3")),
            upstream_port=place.upstream_port,
            model=MODEL,
            key_file=json.dumps(str(key_file)),
            key_id=json.dumps(key.settings.id),
            key_hash=json.dumps(key.settings.hash),
        )
    )
    words = [sys.executable, "-m", "gateway.cli.main", "serve", "--config", str(config), "--log-level", "warning"]
    return Gateway(Command(words), _target(place, key.raw), "this checkout")


def _relay(place: Place) -> Gateway:
    words = [sys.executable, "-m", "benchmarks.upstream.gateways.relay", str(place.port), str(place.upstream_port)]
    return Gateway(Command(words), _target(place, _UPSTREAM_KEY), "bare TCP on trio")


def _http_proxy(place: Place) -> Gateway:
    words = [sys.executable, "-m", "benchmarks.upstream.gateways.http_proxy", str(place.port)]
    words += [str(place.upstream_port), _UPSTREAM_KEY]
    return Gateway(Command(words), _target(place, _UPSTREAM_KEY), "Penstock's HTTP without actors")


def _litellm(place: Place) -> Gateway:
    binary = _installed(place.peers / "litellm" / "bin" / "litellm")
    config = place.folder / "config.yaml"
    # JSON is YAML, too.
    config.write_text(
        json.dumps(
            {
                "model_list": [
                    {
                        "model_name": MODEL,
                        "litellm_params": {
                            "model": f"openai/{MODEL}",
                            "api_base": f"http://127.0.0.1:{place.upstream_port}/v1",
                            "api_key": _UPSTREAM_KEY,
                        },
                    }
                ],
                "general_settings": {"master_key": _KEY},
                "litellm_settings": {"telemetry": False, "request_timeout": 600, "set_verbose": False},
            }
        )
    )
    words = [str(binary), "--config", str(config), "--host", "127.0.0.1", "--port", str(place.port)]
    environment = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}
    return Gateway(
        Command([*words, "--num_workers", "1"], environment), _target(place, _KEY), _version(binary, "litellm")
    )


def _portkey(place: Place) -> Gateway:
    package = place.peers / "portkey" / "node_modules" / "@portkey-ai" / "gateway"
    server = _installed(package / "build" / "start-server.js")
    version = json.loads((package / "package.json").read_text())["version"]
    target = Target(
        place.port,
        {
            "authorization": f"Bearer {_UPSTREAM_KEY}",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"http://127.0.0.1:{place.upstream_port}/v1",
        },
    )
    words = ["node", str(server), f"--port={place.port}", "--headless"]
    return Gateway(Command(words, {"NODE_ENV": "production"}), target, f"@portkey-ai/gateway {version}")


def _smg(place: Place) -> Gateway:
    binary = _installed(place.peers / "smg" / "bin" / "smg")
    options = {
        "host": "127.0.0.1",
        "port": str(place.port),
        "worker-urls": f"http://127.0.0.1:{place.upstream_port}",
        "policy": "round_robin",
        "api-key": _KEY,
        "log-level": "error",
        "prometheus-host": "127.0.0.1",
        "prometheus-port": str(place.spare_port),
    }
    words = [str(binary), "launch", "--disable-tokenizer-autoload"]
    words += [word for name, value in options.items() for word in (f"--{name}", value)]
    return Gateway(Command(words), _target(place, _KEY), _version(binary, "smg"))


def _target(place: Place, key: str) -> Target:
    return Target(place.port, {"authorization": f"Bearer {key}"})


def _installed(path: Path) -> Path:
    if not path.exists():
        raise GatewayAbsentError(f"not installed: {path} does not exist")
    return path


def _version(binary: Path, package: str) -> str:
    """From the folder of the installed distribution: importing it would cost seconds."""
    pattern = f"lib/python*/site-packages/{package}-*.dist-info"
    found = next(iter(sorted(binary.parent.parent.glob(pattern))), None)
    return f"{package} {found.name.removesuffix('.dist-info').split('-')[1]}" if found else package


GATEWAYS: dict[str, Callable[[Place], Gateway]] = {
    "penstock": _penstock,
    "litellm": _litellm,
    "portkey": _portkey,
    "smg": _smg,
    "proxy": _http_proxy,
    "relay": _relay,
}
