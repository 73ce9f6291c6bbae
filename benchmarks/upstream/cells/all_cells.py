"""The cells by name, in the order in which they are measured."""

from collections.abc import Callable

import msgspec

from benchmarks.upstream.cells.memory_cell import memory
from benchmarks.upstream.cells.paced_cells import long_prompts, many, most_streams, pace
from benchmarks.upstream.cells.speed_cells import added_latency, streams, whole_answers
from benchmarks.upstream.figures import Figure, Sizes
from benchmarks.upstream.stand import Stand


class Cell(msgspec.Struct, frozen=True):
    """One measurement."""

    title: str
    run: Callable[[Stand, Sizes], list[Figure]]
    fresh: bool = False
    """Whether it needs a gateway that was just started."""


CELLS = {
    "whole": Cell("whole answers of {sizes.whole_tokens} tokens", whole_answers),
    "streams": Cell("streams of {sizes.stream_events} events at full speed", streams),
    "paced": Cell("{sizes.paced} streams × {sizes.rate_hz:.0f} events/s", pace),
    "latency": Cell("whole answers of 1 token, one connection", added_latency),
    "many": Cell("{sizes.many} streams × {sizes.rate_hz:.0f} events/s", many),
    "most": Cell("streams × {sizes.rate_hz:.0f} events/s with an added gap p99 ≤ {sizes.most_gap_s} s", most_streams),
    "long": Cell(
        "prompts of {sizes.prompt_bytes:,} bytes × {sizes.long_connections}, beside {sizes.long_beside} streams",
        long_prompts,
    ),
    "memory": Cell("memory", memory, fresh=True),
}
