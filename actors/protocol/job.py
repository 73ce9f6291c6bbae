"""One attempt's work for one backend: what waits in a queue, and what an engine or an upstream then runs."""

from collections.abc import Mapping
from typing import Any

import msgspec

from actors.api.request import Prompt
from actors.protocol.delivery import Delivery
from engine.messages import Embed, Submit
from engine.sampling.grammar import Grammar
from engine.sampling.params import SamplingParams
from engine.scheduling.prefix_marks import prefix_marks
from policies.queueing.backend_queue import BackendJob
from policies.queueing.placement import PrefixMark


class UpstreamCall(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """One choice's answer, asked of an upstream: what `Submit` is for an engine."""

    sequence_id: int
    model: str
    """The name that the upstream knows."""
    prompt: Prompt
    params: SamplingParams
    grammar: Grammar | None = None
    """What the answer must be like, if it is no tool call."""
    limit: int | None = None
    """Output tokens that client or route allow; None: they have not said. `params` has a bound in either case."""
    written: Mapping[str, Any] = {}
    """The fields of the request, as the client wrote them."""
    begun: str = ""
    """What the client has of the answer: it goes on after this."""


class Job(BackendJob, frozen=True, kw_only=True):
    """One attempt on one rung: what waits in the fair queue, and what the engine or the upstream then runs."""

    job_id: int
    engine: str
    """The rung's name."""
    sequences: tuple[Submit, ...] | tuple[UpstreamCall, ...] | tuple[Embed, ...]
    """Each with a `sequence_id`: `Submit` for an engine, `Embed` for an encoder, `UpstreamCall` for an upstream."""
    delivery: Delivery

    @property
    def sequence_count(self) -> int:
        return len(self.sequences)

    @property
    def prompt_lengths(self) -> list[int]:
        """Encoders and upstreams keep no KV blocks."""
        return [len(each.prompt_token_ids) for each in self.sequences if isinstance(each, Submit)]

    def prefix_marks(self, block_size: int) -> tuple[PrefixMark, ...]:
        """Of the first choice, which begins as all do."""
        first = self.sequences[0]
        if not isinstance(first, Submit):
            return ()
        return tuple([PrefixMark(*mark) for mark in prefix_marks(first, block_size)])
