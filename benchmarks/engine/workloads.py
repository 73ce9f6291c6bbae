"""The workloads W1 to W4, as token ids."""

import json
from random import Random

import msgspec

MODEL = "bench"


class BenchRequest(msgspec.Struct, frozen=True):
    """One request."""

    prompt: tuple[int, ...]
    output_tokens: int

    def body(self) -> bytes:
        fields = {"model": MODEL, "prompt": self.prompt, "max_tokens": self.output_tokens, "temperature": 0}
        fields |= {"ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}
        return json.dumps(fields).encode()


TITLES = {
    "W1": "one stream, 128 in, 128 out",
    "W2": "sixteen at once, 128 in, 128 out",
    "W3": "32 at once, 32-512 in, 16-256 out",
    "W4": "sixteen with a shared prefix of 512, 32 own, 32 out",
}


def requests_of(workload: str, vocab: int, seed: int) -> list[BenchRequest]:
    """The requests of a workload, sent at once. Another seed gives uncached tokens of the same lengths."""
    sizes, words = Random(32), Random(seed)

    def prompt(length: int) -> tuple[int, ...]:
        # Ids 0 and 1 are the begin and end token.
        return tuple(words.randrange(2, vocab) for _ in range(length))

    if workload == "W1":
        return [BenchRequest(prompt(128), 128)]
    if workload == "W2":
        return [BenchRequest(prompt(128), 128) for _ in range(16)]
    if workload == "W3":
        return [BenchRequest(prompt(sizes.randint(32, 512)), sizes.randint(16, 256)) for _ in range(32)]
    shared = prompt(512)
    return [BenchRequest(shared + prompt(32), 32) for _ in range(16)]
