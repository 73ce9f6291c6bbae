"""What a request is like, as far as decisions look at it."""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from config.model.conditions import Has
from policies.model.requirements import Requirements


class Features(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Facts of one request, known before anything is decided.

    What costs microseconds to find out (`code`, `language`, `headers`) is filled in only if the policy asks for it:
    see `Policy.needs`.
    """

    model: str
    """The name that the client asked for."""
    tenant: str
    tier: str
    tags: frozenset[str] = frozenset()
    headers: Mapping[str, str] = MappingProxyType({})
    """By name in lower case."""
    path: str = "/v1/chat/completions"
    has: frozenset[Has] = frozenset()
    prompt_tokens: int
    """Of all prompts of the request together."""
    max_tokens: int
    """Output tokens that the client allows for each choice; 0 if it did not say."""
    choices: int = 1
    """Number of prompts times `n`."""
    turn: int = 1
    """User turns in the conversation, this one included."""
    complexity: float = 0.0
    """0..1, see `policies.routing.complexity`."""
    code: float = 0.0
    """0..1, see `policies.routing.code_share`."""
    language: str = "und"
    """See `policies.routing.language`."""
    at: float = 0.0
    """Seconds since 1970, UTC."""
    priors: Mapping[str, tuple[float, float]] = MappingProxyType({})
    """By cascade whose calibration looks at prompts (`policies.cascade.prompt_model.priors_of`). No words are kept."""
    budget_used: float = 0.0
    """Share of the tenant's budget that is spent or reserved; 0 without a budget."""
    budget_spent: bool = False
    """This request does not fit into what is left of the budget: only the cheapest may answer it."""
    downgraded_from: str = ""
    """The tenant's tier, if a spent budget has moved the request from there into `tier`."""
    requirements: Requirements = Requirements()
    """What it needs of whoever answers it; no condition looks at it."""
    request: str = ""
    conversation: str = ""
    user: str = ""
    """The units by which experiments split the traffic; "" if unknown."""
