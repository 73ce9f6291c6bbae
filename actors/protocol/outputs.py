"""What comes of a job, put into its request's delivery slot: outputs, and notices about the job."""

import msgspec

from engine.messages import Finish, SequenceOutput, TokenLogprobs
from engine.text.tool_calls import ToolCall
from policies.fallback.verdict import NOTHING_SAID, Said


class TextDelta(msgspec.Struct, frozen=True, gc=False):
    """What one piece of an upstream's answer brought for one call: text, whose token ids nobody names."""

    sequence_id: int
    text: str
    token_count: int
    """An estimate; the last delta corrects it, also downwards."""
    logprobs: tuple[TokenLogprobs, ...] = ()
    finish: Finish | None = None
    """With the last one."""
    upstream_finish: str = ""
    """The upstream's own finish reason, if it is none that is known; `finish.reason` is "stop" then."""
    tool_calls: tuple[ToolCall, ...] = ()
    """All at once, with the finish."""
    reasoning: str = ""
    """What the model thought, beside `text`; its tokens are counted, too."""
    model: str = ""
    """As the upstream names it; "" if it does not."""


JobOutput = SequenceOutput | TextDelta


class JobStarted(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The work has left the queue for its engine."""

    at: float


class JobRejected(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The work was not, or no longer, let in."""

    why: str
    message: str
    retry_after_s: float | None = None
    lasting: bool = False
    """The rung takes no such request, now or later."""
    said: Said = NOTHING_SAID
    """By an upstream."""


class JobFailed(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The engine or upstream broke off while it had the work."""

    code: str
    message: str
    retryable: bool = True
    """The same rung may do better at once."""
    retry_after_s: float | None = None
    """An upstream has asked for so long a pause."""
    rung_is_up: bool = False
    """Other replicas of the engine serve on: it says nothing about the rung."""
    said: Said = NOTHING_SAID
    """By an upstream."""


class Terminate(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The service ends this answer."""

    code: str
    message: str


StreamNotice = JobStarted | JobRejected | JobFailed | Terminate
