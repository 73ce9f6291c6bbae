"""Installs the gateways used for comparison, each in an environment of its own, at one version.

The versions are exact: LiteLLM's in particular stays, because a later release was published with foreign code in it.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.engine.install_peers import PEERS
from benchmarks.upstream.gateways import GatewayAbsentError

__all__ = ["INSTALLERS", "PEERS", "install"]

_PACKAGES = {"litellm": "litellm[proxy]==1.106.12", "smg": "smg==1.13.0", "py-spy": "py-spy"}
_PORTKEY = "@portkey-ai/gateway@1.15.2"
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
    stamp = place / ".installed"
    if stamp.exists() and stamp.read_text() == _PORTKEY:
        return
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            raise GatewayAbsentError(f"{tool} is not installed")
    place.mkdir(parents=True, exist_ok=True)
    _run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(place), _PORTKEY])
    stamp.write_text(_PORTKEY)


def _run(words: list[str]) -> None:
    try:
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=_INSTALL_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GatewayAbsentError(f"installing failed: {error}") from error
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise GatewayAbsentError(f"installing failed: {' '.join(words[-1:])}: {''.join(last)}")


INSTALLERS: dict[str, Callable[[Path], None]] = {
    "litellm": _from_pypi,
    "portkey": _from_npm,
    "smg": _from_pypi,
    "py-spy": _from_pypi,
}
