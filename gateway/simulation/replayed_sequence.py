"""A sequence with lengths but no tokens, for the engine's scheduler and block manager."""

from collections.abc import Callable

from engine.messages import Submit
from engine.sampling.params import SamplingParams
from engine.scheduling.sequence import Sequence
from policies.records.trace import TraceRequest

_GREEDY = SamplingParams(max_tokens=1, temperature=0.0)
_PROMPT, _OUTPUT, _SHARED = 1, 2, 3


class ReplayedSequence(Sequence):
    """One choice of one attempt. It shares KV blocks with another one only for prefixes that are equal in the trace."""

    __slots__ = ("at", "begin", "choice", "end", "on_stop", "request", "started_at", "stop", "tenant", "visible")

    def __init__(
        self,
        choice: int,
        on_stop: Callable[["ReplayedSequence", float], None],
        *,
        number: int,
        priority: int,
        tenant: tuple[int, str],
        request: tuple[int, TraceRequest],
        prompt_tokens: int,
        output_tokens: int,
        limit: int,
    ) -> None:
        """`number`: rises in the order of arrival. `tenant`: its cache salt and its tenant queue.

        `on_stop` is called with the sequence and the time when its number of known tokens reaches `stop`.
        """
        command = Submit(sequence_id=number, prompt_token_ids=(), params=_GREEDY, priority=priority)
        super().__init__(command, arrival=number, limit=limit, seed=0, banned=())
        self.choice = choice
        self.on_stop = on_stop
        self.known = self.begin = prompt_tokens
        self.end = prompt_tokens + output_tokens
        """Number of known tokens at which its answer is complete."""
        self.stop = self.begin + 1
        """Number of known tokens at which `on_stop` is called next."""
        self.tenant = tenant
        self.request = request
        self.visible = False
        """The client receives each token when it is generated."""
        self.at = 0.0
        self.started_at = 0.0
        """When its job left the queue."""

    @property
    def generated(self) -> int:
        return self.known - self.begin

    def block_names(self, count: int, block_size: int) -> list[bytes]:
        names = self._names
        if len(names) <= count:
            salt = self.tenant[0] << 96
            number, request = self.request
            shared = min(len(request.prefix) * request.prefix_block, request.prompt_tokens) if request.prefix else 0
            for index in range(len(names) - 1, count):
                last = (index + 1) * block_size
                if last <= shared:
                    # Prefix ids are chained: the id that covers the block's last token identifies all tokens before it.
                    owner = request.prefix[(last - 1) // request.prefix_block] << 2 | _SHARED
                elif last <= request.prompt_tokens:
                    owner = number << 2 | _PROMPT
                else:
                    owner = self.sequence_id << 2 | _OUTPUT
                names.append((salt | (owner & 2**64 - 1) << 32 | index).to_bytes(16, "little"))
        return names[1 : count + 1]
