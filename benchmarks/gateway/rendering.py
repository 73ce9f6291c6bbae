"""What it takes to render one content event in each wire format: python -m benchmarks.gateway.rendering.

Processor time of this thread, the best of `--rounds`, one event rendered at a time as a stream's are.
"""

import argparse
import gc
import time

import msgspec

from actors.api.request import ParsedBody
from actors.api.response import Delta, ResponseEvent, Start
from gateway.endpoints.completions import CHAT, COMPLETION, MESSAGE, Endpoint
from gateway.endpoints.responses.responses import RESPONSE
from gateway.openai.responses.completion import Identity

_IDENTITY = Identity("0123456789abcdef01234567", "penstock", 1_700_000_000, "fp_0")
_ASK: dict[str, object] = {"model": "penstock", "max_tokens": 9, "stream": True}
_MESSAGES = {"messages": [{"role": "user", "content": "Hi"}]}
_BODIES: dict[str, tuple[Endpoint, dict[str, object]]] = {
    "chat": (CHAT, {**_ASK, **_MESSAGES}),
    "completions": (COMPLETION, {**_ASK, "prompt": "Hi"}),
    "messages": (MESSAGE, {**_ASK, **_MESSAGES}),
    "responses": (RESPONSE, {"model": "penstock", "input": "Hi", "stream": True}),
}


def cost_us(endpoint: Endpoint, body: ParsedBody, events: int) -> float:
    renderer = endpoint.renderer(_IDENTITY, body, None)
    deltas: list[list[ResponseEvent]] = [[Delta(0, f" word{number % 10}", (number,))] for number in range(events)]
    renderer.render([Start("route", "small", 5)])
    renderer.render(deltas[0])
    gc.disable()
    began = time.thread_time()
    for delta in deltas:
        renderer.render(delta)
    taken = time.thread_time() - began
    gc.enable()
    return taken / events * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    best: dict[str, float] = {}
    for _ in range(arguments.rounds):
        for name, (endpoint, body) in _BODIES.items():
            cost = cost_us(endpoint, endpoint.parse(msgspec.json.encode(body), 1), arguments.events)
            best[name] = min(cost, best.get(name, cost))
    print("| wire format | µs an event | times chat |\n| --- | --- | --- |")
    for name, cost in best.items():
        print(f"| {name} | {cost:.2f} | {cost / best['chat']:.2f} |")


if __name__ == "__main__":
    main()
