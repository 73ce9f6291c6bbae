"""One client of the table: what is installed for it, and its script."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.paths import ROOT

SCRIPTS = ROOT / "tests" / "clients" / "scripts"
HOME = Path.home() / ".cache" / "penstock" / "clients"
"""Each client has a folder of its own in there: a virtual environment, or one of npm's."""


@dataclass(frozen=True)
class Outcome:
    """What became of one feature."""

    feature: str
    refused: str = ""
    """Why it does not work, which is meant to be so."""
    fault: str = ""


@dataclass(frozen=True)
class Client:
    """`packages`: with their pins, the client's own first."""

    name: str
    packages: tuple[str, ...]
    script: str
    language: Literal["python", "npm"] = "python"
    in_ci: bool = False
    """Its packages are development dependencies of this project."""

    @property
    def version(self) -> str:
        return self.packages[0].rpartition("@" if self.language == "npm" else "==")[2]

    @property
    def folder(self) -> Path:
        return HOME / self.name

    def install(self) -> None:
        """Raises `CalledProcessError`. What is there already stays."""
        done = self.folder / ".installed"
        if done.exists() and done.read_text() == "\n".join(self.packages):
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        if self.language == "npm":
            (self.folder / "package.json").write_text('{"private": true, "type": "module"}')
            words = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", *self.packages]
            subprocess.run(words, cwd=self.folder, check=True)
        else:
            subprocess.run([sys.executable, "-m", "venv", self.folder], check=True)
            subprocess.run([self.folder / "bin" / "python", "-m", "pip", "install", "-q", *self.packages], check=True)
        done.write_text("\n".join(self.packages))

    def run(self, environment: dict[str, str], *, own: bool = True) -> list[Outcome]:
        """What its script says. `own`: in the client's folder, not in this process's environment."""
        words, folder = self._command(own=own)
        done = subprocess.run(words, cwd=folder, env={**os.environ, **environment}, stdout=subprocess.PIPE, check=False)
        lines = [line for line in done.stdout.decode().splitlines() if line.startswith('{"feature"')]
        outcomes = [Outcome(**json.loads(line)) for line in lines]
        if done.returncode and not any(each.fault for each in outcomes):
            outcomes.append(Outcome("the script", fault=f"it ended with {done.returncode}"))
        return outcomes

    def _command(self, *, own: bool) -> tuple[list[str], Path]:
        if self.language == "npm":
            # A module finds its packages beside itself.
            for name in (self.script, "features.mjs"):
                shutil.copy(SCRIPTS / name, self.folder)
            own_node = self.folder / "node_modules" / "node" / "bin" / "node"
            return [str(own_node) if own_node.exists() else "node", self.script], self.folder
        python = str(self.folder / "bin" / "python") if own else sys.executable
        return [python, "-m", f"tests.clients.scripts.{self.script.removesuffix('.py')}"], ROOT
