"""How long a stream pauses when its engine is killed: `python -m benchmarks.gateway.rescue_gap`.

A gateway with the embedded model, `host = "process"`, in three arrangements. A stream runs; after a random number of
its events the process of its engine is killed by SIGKILL; the longest time between two of its events is the gap. The
answer must be the same, byte for byte, as one that was not cut. Beside it: how long the same tokens take as a prompt.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.upstream.figures import percentile

_ENGINE = """
[engines.{name}]
model = "{model}"
threads = 1
host = "process"
"""
_REST = """
[server]
port = 0
[ledger]
path = {ledger}
[models.all]
[tiers.default]
[[routes]]
name = "all"
use = {{ ladder = "all" }}
midstream = "continue"
deadlines = {{ stall = "30s" }}
"""
_ARRANGEMENTS = {
    "next": (("first", "second"), "", 3),
    "replica": (("first",), "replicas = 2\n", 3),
    "alone": (("first",), "", 2),
}
"""Another engine follows on the ladder; a replica is left; the engine has to be started again. Engines, what more is
written of each, and how many processes there are with the spare one."""
_PATIENCE_S = 120.0
_SETTLE_S = 0.2


class Streamed(msgspec.Struct):
    """What came of one stream."""

    text: str = ""
    arrivals_s: list[float] = []
    ended: bool = False

    @property
    def gap_s(self) -> float:
        return max(after - before for before, after in zip(self.arrivals_s, self.arrivals_s[1:], strict=False))


class Served:
    """A running gateway."""

    def __init__(self, folder: Path, arrangement: str) -> None:
        names, more, self._processes = _ARRANGEMENTS[arrangement]
        model = Path("engine/zoo/models/large").resolve()
        text = "schema = 1\n" + "".join(_ENGINE.format(name=name, model=model) + more for name in names)
        text += _REST.format(ledger=json.dumps(str(folder / "ledger.sqlite3"))) + "".join(
            f'[[ladders.all]]\nto = "{name}"\nretries = 2\n' for name in names
        )
        file = folder / "service.toml"
        file.write_text(text)
        words = [sys.executable, "-m", "gateway.cli.main", "serve", "--config", str(file)]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self._process.stdout is not None
        said = b""
        while b"serving " not in said:
            said = self._process.stdout.readline()
            if not said:
                raise SystemExit("the gateway did not start")
        self.port = int(said.rsplit(b":", 1)[1])

    def end(self) -> None:
        self._process.terminate()
        self._process.communicate()

    def engines(self) -> list[int]:
        """The processes that compute, and the spare one that only waits."""
        found = []
        for each in Path("/proc").iterdir():
            try:
                parent = int((each / "stat").read_text().rsplit(")", 1)[1].split()[1]) if each.name.isdigit() else 0
                if parent == self._process.pid and b"engine.hosting" in (each / "cmdline").read_bytes():
                    found.append(int(each.name))
            except OSError:
                continue
        return found

    def wait_until_ready(self) -> None:
        """Until every engine serves and the spare process waits."""
        before: tuple[list[int], float] = ([], 0.0)
        while True:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz") as response:
                states = json.load(response)["engines"].values()
            found = sorted(self.engines())
            busy = sum(_cpu_s(process) for process in found)
            # Processes that import or load compute: those that wait do not.
            complete = len(found) == self._processes and all(each["state"] == "ready" for each in states)
            if complete and (found, busy) == before:
                return
            before = (found, busy)
            time.sleep(_SETTLE_S)

    def ask(self, tokens: int, prompt: str, *, kill_at: int = 0, most: int = 0) -> Streamed:
        """One stream; after its event number `kill_at` the process that computes it is killed."""
        body = {
            "model": "all",
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": most or tokens,
            "temperature": 2.0,  # a text that goes on: greedily, the small models soon have nothing more to say
            "seed": 7,
            "ignore_eos": True,
            "stream": True,
        }
        connection = HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE_S)
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
        response = connection.getresponse()
        seen = Streamed()
        busy = {process: _cpu_s(process) for process in self.engines()}
        for line in response:
            if line.startswith(b"data: [DONE]"):
                seen.ended = True
            elif line.startswith(b"data: "):
                content = _content_of(json.loads(line[6:]))
                if content:
                    seen.text += content
                    seen.arrivals_s.append(time.perf_counter())
                    if len(seen.arrivals_s) == kill_at:
                        os.kill(max(busy, key=lambda process: _cpu_s(process) - busy[process]), signal.SIGKILL)
        connection.close()
        return seen


def _content_of(event: dict[str, Any]) -> str:
    choices = event.get("choices") or [{}]
    return str(choices[0].get("delta", {}).get("content") or "")


def _cpu_s(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Kill(msgspec.Struct):
    """One stream whose engine was killed."""

    gap_s: float
    prefill_s: float
    """How long a prompt as long as the whole answer takes."""
    same: bool
    """The answer is that of a stream that was not cut."""


def killed(arrangement: str, tokens: int, chance: random.Random) -> Kill:
    """In a new gateway: the pause before an engine is started again grows with its crashes within a minute."""
    with tempfile.TemporaryDirectory() as folder:
        served = Served(Path(folder), arrangement)
        try:
            served.wait_until_ready()
            prompt = "Tell me all that you know."
            uncut = served.ask(tokens, prompt)
            began = time.perf_counter()
            again = served.ask(tokens, prompt + " " + uncut.text, most=1)
            prefill_s = again.arrivals_s[0] - began
            served.wait_until_ready()
            seen = served.ask(tokens, prompt, kill_at=chance.randrange(tokens // 8, tokens // 2))
            return Kill(seen.gap_s, prefill_s, seen.ended and seen.text == uncut.text)
        finally:
            served.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="in each arrangement")
    parser.add_argument("--tokens", type=int, default=600, help="of an answer")
    parser.add_argument("--arrangements", nargs="+", default=list(_ARRANGEMENTS), choices=list(_ARRANGEMENTS))
    arguments = parser.parse_args()
    print("| arrangement | gap p50 / p95 / most, s | a prompt as long, s | answers that differ |")
    print("| --- | --- | --- | --- |")
    for arrangement in arguments.arrangements:
        chance = random.Random(1)
        kills = [killed(arrangement, arguments.tokens, chance) for _ in range(arguments.kills)]
        figures = " / ".join(f"{percentile([kill.gap_s for kill in kills], share):.2f}" for share in (0.5, 0.95, 1.0))
        prefill_s = percentile([kill.prefill_s for kill in kills], 0.5)
        differ = sum(not kill.same for kill in kills)
        print(f"| {arrangement} | {figures} | {prefill_s:.2f} | {differ} of {len(kills)} |", flush=True)


if __name__ == "__main__":
    main()
