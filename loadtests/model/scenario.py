"""A scenario: what is sent to which server, when and by whom. The TOML file of `penstock load run`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from config.model.bounds import Count, Natural, NonNegative, Positive, PositiveShare, within
from config.model.table import NonNegativeSeconds, PositiveBytes, PositiveSeconds, Seconds, Table
from config.model.tenancy import Price
from config.model.upstreams import SecretSource
from loadtests.model.faults import FaultSettings, ProcessSettings, ProxySettings
from loadtests.model.lengths import Lengths, SessionSettings, SharedPrefix

Transport = Literal["sse", "websocket", "whole"]
"""sse: a stream of server-sent events. websocket: Penstock's `/v1/stream`. whole: one JSON answer."""
Endpoint = Literal["chat", "completions"]


class LoadTarget(Table, frozen=True):
    """The server."""

    url: str = "http://127.0.0.1:8080"
    """With or without `/v1` at its end."""
    model: str = "penstock"
    """What requests ask for unless their entry in `mix` says otherwise."""
    key: SecretSource | None = None
    """The API key of requests without a tenant."""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    connect: PositiveSeconds = Seconds(10)
    connections: Annotated[int, within(0, 60_000)] = 0
    """So many are opened before the run, so that the first requests of a high rate need no new ones. Servers close them
    again if they are not used soon, mostly after five seconds or more."""
    silence: PositiveSeconds = Seconds(120)
    """A request whose answer brings no byte for so long has failed with `stalled`."""
    one_token_events: bool = False
    """Each event of a stream is one token, as far as this server is known: then `usage` must agree with them exactly.
    Without it, no more events with content may come than tokens are counted."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """How the output's length is bounded in chats. All servers know the first, but for newer models of OpenAI, which
    refuse it. Text completions always have the first."""
    authorities: Path | None = None
    """A PEM file with the certificates to trust in place of the system's."""


class RatePhase(Table, frozen=True):
    """A part of the run with its own rate: a step, or with `to` a ramp."""

    lasts: PositiveSeconds
    rate: NonNegative
    """Arrivals a second at its beginning."""
    to: NonNegative | None = None
    """At its end; the rate changes evenly."""


class Arrivals(Table, frozen=True):
    """When requests, or the first requests of sessions, are meant to be sent."""

    kind: Literal["constant", "poisson", "gamma", "closed", "trace"] = "poisson"
    """All but `closed` are open loops: what the server does changes nothing about when requests are sent."""
    rate: Positive | None = None
    """Arrivals a second."""
    burstiness: Annotated[float, within(0.1, 20)] = 2.0
    """gamma: standard deviation of the gaps over their mean; 1 is Poisson, more comes in bursts."""
    clients: Count | None = None
    """closed: so many clients, each of which sends its next request when the last one's answer has ended."""
    max_in_flight: Count | None = None
    """Requests wait for a place beyond so many. The wait counts: their latencies are from the intended time."""
    phases: tuple[RatePhase, ...] = ()
    """In place of `rate`; they make the duration of the run."""
    trace: Path | None = None
    """trace: recorded traffic (docs/simulation.md), which gives times, lengths and shared prefixes."""
    speed: Positive = 1.0
    """trace: so many times as fast as it was recorded."""
    longest_prompt: Count = 1_000_000
    """trace: longer prompts are cut to so many tokens; shared prefixes stay shared."""
    longest_output: Count = 1_000_000


class LoadTenant(Table, frozen=True):
    """Who sends: the API key, and what the report calls them."""

    key: SecretSource | None = None
    tier: str = ""
    """As the report groups by it. The server decides itself, by the key."""
    headers: dict[str, str] = msgspec.field(default_factory=dict)


class Behaviour(Table, frozen=True):
    """What a client does that does not simply read until the end."""

    leave_after_tokens: Count | None = None
    """It closes the connection when it has read so many."""
    leave_after: PositiveSeconds | None = None
    """It closes the connection so long after sending."""
    read_rate: PositiveBytes | None = None
    """It reads at most so many bytes a second."""
    half_open_after_tokens: Count | None = None
    """It reads no further and does not close, until the server gives up or the run ends."""
    reconnect_after_tokens: Count | None = None
    """Its connection breaks then, and it reads on over another one (docs/resuming.md)."""
    retries: Annotated[int, within(0, 10)] = 0
    """Of 408, 409, 429, 5xx and lost connections before the answer, with the waits of the official clients."""


class RequestKind(Table, frozen=True):
    """One kind of request in the mix."""

    name: str = ""
    weight: Positive = 1.0
    """Its share, relative to those of the others."""
    tenant: str = ""
    model: str = ""
    """"": the target's."""
    transport: Transport = "sse"
    endpoint: Endpoint = "chat"
    prompt: Lengths = Lengths(median=50.0, p95=150.0, at_most=180)
    """Tokens of the user's text, about: a word of the tool's own list counts as one."""
    output: Lengths = Lengths(median=60.0, p95=160.0, at_most=250)
    """`max_tokens` of the request."""
    prefix: str = ""
    """The shared prefix before the prompt: one of `prefixes`."""
    session: str = ""
    """One of `sessions`; "": a single request."""
    behaviour: str = ""
    """One of `behaviours`; "": reads until the end."""
    ignore_eos: bool = False
    """Ask vLLM and Penstock to go on until `max_tokens`."""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    body: dict[str, Any] = msgspec.field(default_factory=dict)
    """Further fields of the request's JSON, such as `temperature`."""


class SloSettings(Table, frozen=True):
    """What a request has to meet, all of it, to be good. Times are from the intended time."""

    ttft: PositiveSeconds | None = None
    itl: PositiveSeconds | None = None
    """The longest gap between two events."""
    tpot: PositiveSeconds | None = None
    e2e: PositiveSeconds | None = None


class LagBound(Table, frozen=True):
    """How late the load tester itself may be at the 99th percentile; beyond it a run is not valid."""

    p99: PositiveSeconds = Seconds(0.005)
    share_of_ttft: PositiveShare = 0.05
    """The same bound as a share of the median TTFT; the smaller of the two holds."""


class Scenario(Table, frozen=True):
    """A load test."""

    schema: Literal[1]
    name: str = ""
    seed: Natural = 1
    """The same seed gives the same requests at the same times."""
    duration: PositiveSeconds = Seconds(30)
    warm_up: NonNegativeSeconds | None = None
    """Requests that are meant to be sent before are in no total; None: a tenth of the duration, at most 30 s."""
    drain: NonNegativeSeconds = Seconds(30)
    """So long after the duration answers may end; those that have not are `unfinished`."""
    target: LoadTarget = LoadTarget()
    arrivals: Arrivals = Arrivals()
    mix: tuple[RequestKind, ...] = ()
    """Empty: one kind, with the defaults."""
    tenants: dict[str, LoadTenant] = msgspec.field(default_factory=dict)
    prefixes: dict[str, SharedPrefix] = msgspec.field(default_factory=dict)
    sessions: dict[str, SessionSettings] = msgspec.field(default_factory=dict)
    behaviours: dict[str, Behaviour] = msgspec.field(default_factory=dict)
    slo: SloSettings = SloSettings()
    tier_slo: dict[str, SloSettings] = msgspec.field(default_factory=dict)
    """By tier, in place of `slo`."""
    faults: tuple[FaultSettings, ...] = ()
    processes: dict[str, ProcessSettings] = msgspec.field(default_factory=dict)
    """Commands that the load tester runs itself, for faults."""
    proxies: dict[str, ProxySettings] = msgspec.field(default_factory=dict)
    prices: dict[str, Price] = msgspec.field(default_factory=dict)
    """What tokens cost, by the rung that answered if the server says it, else by the model that was asked for."""
    lag: LagBound = LagBound()
    rows: Natural = 10_000
    """Requests of which the record keeps a row each, drawn evenly by the seed; failures of all others are counted."""
    workers: Annotated[int, within(1, 64)] = 1
    """Processes that share the requests."""
