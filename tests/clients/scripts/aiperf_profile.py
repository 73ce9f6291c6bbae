"""The load tester aiperf: chat, completions, responses and embeddings."""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.clients.scripts.features import URL, run

TOKENIZER = os.environ["PENSTOCK_TOKENIZER"]


def measure(kind: str, model: str, words: str = "") -> None:
    with TemporaryDirectory() as folder:
        command = Path(sys.executable).with_name("aiperf")
        subprocess.run(
            f"{command} profile -m {model} -u {URL} --endpoint-type {kind} --tokenizer {TOKENIZER} --request-rate 2"
            f" --request-count 8 --isl 20 --random-seed 1 --ui none --artifact-dir {folder} {words}".split(),
            check=True,
            stdout=sys.stderr,
        )
        [found] = Path(folder).glob("**/profile_export_aiperf.json")
        measured = json.loads(found.read_text())
        assert measured["request_count"]["avg"] == 8, measured["request_count"]
        assert not measured.get("error_summary"), measured["error_summary"]


STREAMED = "--streaming --osl 16 --extra-inputs"
"""An answer without any text counts as an error there: prompts are random words, so the end must not come first."""

if __name__ == "__main__":
    run(
        {
            "chat, streamed": lambda: measure("chat", "small", f"{STREAMED} min_tokens:16"),
            "completions, streamed": lambda: measure("completions", "small", f"{STREAMED} min_tokens:16"),
            "responses, streamed": lambda: measure("responses", "small", f"{STREAMED} temperature:0"),
            "embeddings": lambda: measure("embeddings", "mini"),
        }
    )
