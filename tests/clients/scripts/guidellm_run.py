"""The load tester guidellm: chat, completions and responses at a constant rate."""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.clients.scripts.features import URL, run

TOKENIZER = os.environ["PENSTOCK_TOKENIZER"]


def measure(path: str) -> None:
    with TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = Path(sys.executable).with_name("guidellm")
        subprocess.run(
            f"{command} run --backend kind=openai_http,target={URL},model=small,request_format={path}"
            " --profile kind=constant,rate=2 --constraint kind=max_requests,count=8"
            f" --tokenizer kind=hf_auto,model={TOKENIZER} --data kind=synthetic_text,prompt_tokens=64,output_tokens=16"
            f" --output kind=json,path={out} --disable-console".split(),
            check=True,
            stdout=sys.stderr,
        )
        [measured] = json.loads(out.read_text())["benchmarks"]
        totals = measured["metrics"]["request_totals"]
        # It may end before the last of them is counted.
        assert totals["successful"] == totals["total"] > 0, totals


if __name__ == "__main__":
    run(
        {
            "chat": lambda: measure("/v1/chat/completions"),
            "completions": lambda: measure("/v1/completions"),
            "responses": lambda: measure("/v1/responses"),
        }
    )
