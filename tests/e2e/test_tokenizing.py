"""The page about tokens, over a real socket with the tokenizer of the embedded models."""

import json

import httpx

from tests.e2e.process import GatewayProcess
from tests.e2e.test_readme import blocks
from tests.patience import PATIENCE_S


def test_the_page(served: GatewayProcess) -> None:
    asked, answered = map(json.loads, blocks("docs/tokenizing.md", "json"))

    def post(path: str, **body: object) -> dict[str, object]:
        return httpx.post(served.url + path, json=body, timeout=PATIENCE_S).json()

    assert post("/v1/tokenize", **asked) == answered
    without = post("/tokenize", **asked, add_generation_prompt=False)
    assert without["tokens"] == answered["tokens"][:-1]
    assert post("/detokenize", model="small", tokens=[329, 290]) == {"prompt": "What is"}
