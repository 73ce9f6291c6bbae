"""`penstock serve` as it comes: README's own question, by the official client, without a word on sampling."""

from pathlib import Path
from typing import Any

import openai

from tests.e2e.process import GatewayProcess

QUESTION: Any = [{"role": "user", "content": "What is 17 + 25?"}]


def test_a_request_that_says_nothing_of_sampling_is_sampled_as_the_model_wants(tmp_path: Path) -> None:
    """The seeds stand for any that a server would draw."""
    process = GatewayProcess(log=tmp_path / "log")
    try:
        with openai.OpenAI(base_url=f"{process.url}/v1", api_key="none", max_retries=0) as client:
            said = [
                client.chat.completions.create(model=model, messages=QUESTION, seed=seed).choices[0].message.content
                for seed, model in enumerate(("penstock", "large") * 30)
            ]
            assert said == ["42"] * 60
            # What the client says holds.
            hot = {
                client.chat.completions.create(model="large", messages=QUESTION, seed=seed, temperature=2)
                .choices[0]
                .message.content
                for seed in range(10)
            }
            assert len(hot) > 1
    finally:
        process.end()
    assert "temperature 0" in process.log or "temperature 0" in process.said()
