"""A sequence without tokens: the engine's scheduler and block manager see lengths, and names of blocks."""

from collections.abc import Callable

from engine.messages import Submit
from engine.sampling.params import SamplingParams
from engine.scheduling.sequence import Sequence
from policies.records.trace import TraceRequest

_GREEDY = SamplingParams(max_tokens=1, temperature=0.0)
_PROMPT, _OUTPUT, _SHARED = 1, 2, 3


class Replayed(Sequence):
    """One choice of one attempt. Two of them share the blocks that the trace says they share, and no others."""

    __slots__ = ("at", "begin", "choice", "end", "on_stop", "request", "stop", "tenant", "visible")

    def __init__(
        self,
        choice: int,
        on_stop: Callable[["Replayed", float], None],
        *,
        number: int,
        priority: int,
        tenant: tuple[int, str],
        request: tuple[int, TraceRequest],
        prompt_tokens: int,
        output_tokens: int,
        limit: int,
    ) -> None:
        """`number`: in the order of arrival at the engine. `tenant`: its salt and the line in which it waits.

        `on_stop` is called when it has come to `stop`, with it and the time.
        """
        command = Submit(sequence_id=number, prompt_token_ids=(), params=_GREEDY, priority=priority)
        super().__init__(command, arrival=number, limit=limit, seed=0, banned=())
        self.choice = choice
        self.on_stop = on_stop
        self.known = self.begin = prompt_tokens
        self.end = prompt_tokens + output_tokens
        """Known tokens with which its answer is complete."""
        self.stop = self.begin + 1
        """Known tokens at which somebody wants to hear of it next."""
        self.tenant = tenant
        self.request = request
        self.visible = False
        """Its reader sees each token as it comes."""
        self.at = 0.0
        """When its last token came."""

    @property
    def made(self) -> int:
        """Output tokens so far."""
        return self.known - self.begin

    def block_names(self, count: int, block_size: int) -> list[bytes]:
        """See `Sequence`."""
        names = self._names
        if len(names) <= count:
            salt = self.tenant[0] << 96
            number, request = self.request
            shared = min(len(request.prefix) * request.prefix_block, request.prompt_tokens) if request.prefix else 0
            for index in range(len(names) - 1, count):
                last = (index + 1) * block_size
                if last <= shared:
                    # Ids are chained: the one that covers the block's last token stands for all before it.
                    owner = request.prefix[(last - 1) // request.prefix_block] << 2 | _SHARED
                elif last <= request.prompt_tokens:
                    owner = number << 2 | _PROMPT
                else:
                    owner = self.sequence_id << 2 | _OUTPUT
                names.append((salt | (owner & 2**64 - 1) << 32 | index).to_bytes(16, "little"))
        return names[1 : count + 1]
