"""Installs the gateways used for comparison, each in an environment of its own, at one version.

The versions are exact: LiteLLM's in particular stays, because a later release was published with foreign code in it.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.engine.install_peers import PEERS
from benchmarks.upstream.gateways.gateways import GatewayAbsentError

__all__ = ["INSTALLERS", "PEERS", "install"]

_PACKAGES = {"litellm": "litellm[proxy]==1.106.12", "smg": "smg==1.13.0", "py-spy": "py-spy"}
_PORTKEY = {
    "private": True,
    "dependencies": {"@portkey-ai/gateway": "1.15.2"},
    # The newest one in its declared range with which its streams do not fail with 500 on Node.js 20.
    "overrides": {"@hono/node-server": "1.13.8"},
}
_INSTALL_S = 900.0


def install(name: str, peers: Path) -> None:
    """Install one, unless it is there. Raises `GatewayAbsentError`."""
    INSTALLERS[name](peers / name)


def _from_pypi(place: Path) -> None:
    wanted = _PACKAGES[place.name]
    stamp = place / ".installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if not (place / "bin" / "python").exists():
        _run([sys.executable, "-m", "venv", str(place)])
    python = str(place / "bin" / "python")
    _run([python, "-m", "pip", "--disable-pip-version-check", "-q", "install", wanted])
    stamp.write_text(wanted)


def _from_npm(place: Path) -> None:
    stamp, wanted = place / ".installed", json.dumps(_PORTKEY)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            raise GatewayAbsentError(f"{tool} is not installed")
    place.mkdir(parents=True, exist_ok=True)
    (place / "package.json").write_text(wanted)
    (place / "package-lock.json").unlink(missing_ok=True)
    shutil.rmtree(place / "node_modules", ignore_errors=True)
    _run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(place)])
    stamp.write_text(wanted)


def _run(words: list[str]) -> None:
    try:
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=_INSTALL_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GatewayAbsentError(f"installing failed: {error}") from error
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise GatewayAbsentError(f"installing failed: {''.join(last)}")


INSTALLERS: dict[str, Callable[[Path], None]] = {
    "litellm": _from_pypi,
    "portkey": _from_npm,
    "smg": _from_pypi,
    "py-spy": _from_pypi,
}
