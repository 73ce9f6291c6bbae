"""The one gateway that all clients are tried with: the embedded models, an encoder, and a scripted upstream."""

import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.clients.scripted_upstream import scripted_upstream
from tests.e2e.process import GatewayProcess
from tests.parity.encoders import write_encoder
from tests.paths import ZOO_MODELS

CONFIG = """
schema = 1

[engines.small]
model = "{models}/small"
threads = 1

[engines.large]
model = "{models}/large"
threads = 1

[engines.mini]
model = "mini"
threads = 1

[upstreams.tools]
urls = ["{upstream}/v1"]

[upstreams.thinks]
urls = ["{upstream}/v1"]

[upstreams.proxied]
urls = ["http://127.0.0.1:{proxy_port}/v1"]
model = "small"

[cascades.thrifty]
stages = ["small", "large"]
defer = {{ statistic = "min_margin", threshold = 1.0 }}
emit = {{ mode = "window", window = 4 }}
on_failure = "large"

[models.penstock]
[[routes]]
name = "penstock"
when = {{ model = ["penstock"] }}
use = {{ cascade = "thrifty" }}
"""
LADDER = """
[models.{name}]
[[routes]]
name = "{name}"
when = {{ model = ["{name}"] }}
use = {{ ladder = "{name}" }}
[[ladders.{name}]]
to = "{name}"
"""


@dataclass(frozen=True)
class Served:
    """A gateway, and what its clients have to know."""

    url: str
    files: Path
    """Has `tokenizer`, a folder for clients that count tokens themselves."""
    proxy_port: int
    """Where the model `proxied` is asked for: a client that is a server, too, may listen there."""

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PENSTOCK_URL": self.url,
            "PENSTOCK_TOKENIZER": str(self.files / "tokenizer"),
            "PENSTOCK_PROXY_PORT": str(self.proxy_port),
        }


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """Running, with its files in `folder`."""
    write_encoder("bert", folder / "mini")
    (folder / "tokenizer").mkdir()
    shutil.copy(ZOO_MODELS / "large" / "tokenizer.json", folder / "tokenizer")
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    proxy_port = free_port()
    with scripted_upstream() as upstream:
        text = CONFIG.format(models=ZOO_MODELS, upstream=upstream, proxy_port=proxy_port)
        text += "".join(LADDER.format(name=name) for name in ("small", "large", "mini", "tools", "thinks", "proxied"))
        (folder / "config.toml").write_text(text)
        process = GatewayProcess("--config", str(folder / "config.toml"), log=folder / "serve.log")
        try:
            yield Served(process.url, folder, proxy_port)
        finally:
            process.end()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
