"""One service with its real HTTP server, its engines and upstreams that fail as a case says, on a simulated clock.

Client and server talk over loopback sockets within one event loop. The kernel hands such bytes over within the send, or
shortly after it: so the clock jumps only when no socket has had anything for a millisecond, and a run is repeatable.
"""

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio
import trio._core._run as trio_run
import trio.testing

from config.source import ConfigSource
from tests.actors.fakes import CONFIG, Stage, settings_of, stage
from tests.actors.request.test_draft_verification import config as verified_config
from tests.actors.upstream.network import Network, Server
from tests.engine.tiny_tokenizers import byte_level_tokenizer
from tests.fault_table.seen import Seen, Transport, ask
from tests.gateway.harness import Gateway, gateway

_IDLE_S = 0.001
_WITHIN_S = 100_000.0
QUESTION = "Hi there"
PROMPT_TOKENS = len(byte_level_tokenizer().encode(QUESTION))
TEXT = "the quick brown fox jumps over the lazy dog"
TEXT_TOKENS = len(byte_level_tokenizer().encode(TEXT)) + 1
"""With the one that ends it."""

_UPSTREAMS = """
[prices]
small = { input = 1_000_000, output = 1_000_000, cached_input = 1_000_000 }
large = { input = 1_000_000, output = 1_000_000, cached_input = 1_000_000 }
cloud = { input = 1_000_000, output = 1_000_000 }
other = { input = 1_000_000, output = 1_000_000 }
[upstreams.cloud]
urls = ["http://a/v1"]
model = "llama"
tokenizer = "small"
supports = ["sampling", "continue"]
[upstreams.other]
urls = ["http://b/v1"]
model = "llama"
tokenizer = "small"
supports = ["sampling", "continue"]
[models.stops]
[models.alone]
[models.cloud]
[models.two-clouds]
[models.cloud-only]
[models.upward]
[[ladders.alone]]
to = "small"
[[ladders.cloud-first]]
to = "cloud"
ttft = "5s"
[[ladders.cloud-first]]
to = "small"
mark = "fallback"
[[ladders.two-clouds]]
to = "cloud"
[[ladders.two-clouds]]
to = "other"
[[ladders.cloud-only]]
to = "cloud"
retries = 2
[cascades.upward]
stages = ["small", "cloud"]
defer = { threshold = 1.0 }
emit = { mode = "window", window = 3 }
on_failure = "two-clouds"
[[routes]]
name = "stops"
when = { model = ["stops"] }
use = { ladder = "small-first" }
midstream = "error"
[[routes]]
name = "alone"
when = { model = ["alone"] }
use = { ladder = "alone" }
[[routes]]
name = "cloud"
when = { model = ["cloud"] }
use = { ladder = "cloud-first" }
deadlines = { stall = "10s" }
[[routes]]
name = "two-clouds"
when = { model = ["two-clouds"] }
use = { ladder = "two-clouds" }
[[routes]]
name = "cloud-only"
when = { model = ["cloud-only"] }
use = { ladder = "cloud-only" }
deadlines = { ttft = "10s", stall = "10s", total = "120s" }
[[routes]]
name = "upward"
when = { model = ["upward"] }
use = { cascade = "upward" }
"""


def _service() -> str:
    text = verified_config(draft_tokens=4, midstream="continue")
    first_route = text.index("[[routes]]")
    return text[:first_route] + _UPSTREAMS + text[first_route:]


SERVICE = _service()
"""What all rows are run with, unless they name something else."""
assert len(SERVICE) > len(CONFIG)


class SettableWall:
    """The time of day: it goes on with the simulated clock, until somebody sets it."""

    def __init__(self) -> None:
        self.offset_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.offset_s + trio.current_time()


@dataclass
class Scene:
    """The service under one case, and the handles by which it is hurt."""

    service: Stage
    network: Network
    running: Gateway
    folder: Path
    wall: SettableWall
    struck_at: float | None = None
    """When the fault came."""
    seen: Seen | None = None
    """What the client of the faulted request sees."""

    def struck(self) -> None:
        """The fault comes now; only its first time counts."""
        if self.struck_at is None:
            self.struck_at = trio.current_time()

    def on_step(self, engine: str, at: int, what: Callable[[], None], *, times: int = 1) -> None:
        """Call this before the step `at` from now, and so many times in all, at each step from then on."""
        first, left = self.service.runners[engine][-1].steps + at, [times]

        def strike(number: int, batch: Any) -> None:
            if number >= first and left[0]:
                left[0] -= 1
                self.struck()
                what()

        self.service.on_step[engine] = strike

    async def ask(self, transport: Transport, body: Mapping[str, Any], **options: Any) -> Seen:
        return await ask(self.running, transport, question(body), **options)


def question(body: Mapping[str, Any]) -> dict[str, Any]:
    return {"model": "small", "temperature": 0, "messages": [{"role": "user", "content": QUESTION}], **body}


@asynccontextmanager
async def scene(
    folder: Path,
    *,
    settings: str = SERVICE,
    scripts: Mapping[str, Any] | None = None,
    servers: Mapping[str, Server] | None = None,
    source: ConfigSource | None = None,
    limits: Mapping[str, Any] | None = None,
    **workers: Any,
) -> AsyncIterator[Scene]:
    """`workers`: see `tests.actors.fakes.stage`."""
    async with trio.open_nursery() as nursery:
        network, wall = Network(nursery, dict(servers or {})), SettableWall()
        given = settings_of(settings) if source is None else settings
        async with (
            stage(
                scripts or {},
                settings=given,
                source=source,
                network=network.connect,
                lengths={"small": 2048, "large": 2048},
                clean=False,
                wall=wall,
                **workers,
            ) as service,
            gateway(service.service, limits=dict(limits or {}), within_s=_WITHIN_S) as running,
        ):
            yield Scene(service, network, running, folder, wall)
        nursery.cancel_scope.cancel()


def simulated(work: Callable[[], Any], seed: str = "1") -> Any:
    """Run on a clock that jumps. Twice the same: pauses before retries, and the order of tasks, come from the seed."""
    random.seed(seed)
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True
    trio_run._r.seed(seed)
    try:
        return trio.run(work, clock=trio.testing.MockClock(autojump_threshold=_IDLE_S))
    finally:
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = False
        trio_run._r.seed()
        random.seed()
