"""What a sweep found: a versioned JSON file."""

from pathlib import Path
from typing import Literal

import msgspec

from config.model.units import encodable
from loadtests.model.errors import RecordError
from loadtests.model.record_file import read_bytes, without_secrets
from loadtests.model.run_record import RunMachine
from loadtests.model.scenario import Scenario

SweepOutcome = Literal["found", "above", "below", "invalid", "cut_short", "broken_off", "unsure"]
"""above: even the highest rate holds. below: not even the lowest does. invalid: the load tester itself could not keep
its times. broken_off: a run could not be made, as the server was gone. unsure: the most runs were made, and
the interval is still wider than was asked for."""


class _Kind(msgspec.Struct):
    format: str = ""


class TimeParts(msgspec.Struct, frozen=True):
    """Where the mean response time of whole answers went, in seconds. None: the server does not say."""

    client: float
    """From the intended time to sending: waiting for a place, and the load tester's lag."""
    before_first: float
    """From sending to the first content: queue and prefill together, with the network."""
    after_first: float
    """From the first content to the end: decode and delivery together."""
    queue: float | None = None
    prefill: float | None = None
    decode: float | None = None
    delivery: float | None = None
    """What is left of the time from sending: network, and the server's own handling."""


class SweepProbe(msgspec.Struct, frozen=True):
    """One rate that was tried."""

    rate: float
    seed: int
    valid: bool
    reasons: tuple[str, ...]
    requests: int
    """Without those whose clients left on purpose."""
    good: int
    share: float
    """Of good requests."""
    error: float
    """Its standard error, by blocks of time."""
    holds: float
    """How likely it is, by this run alone, that the share is high enough."""
    growing: bool
    """More and more requests were in flight until the end: a longer run could look worse."""
    goodput: float
    tokens: float
    """A second."""
    ttft_p50: float
    ttft_p99: float
    itl_p99: float
    e2e_p99: float
    missed: dict[str, float]
    """By SLO, and "shed" and "failed": the share of requests that missed it."""
    parts: TimeParts | None
    good_token_cost: float | None = None
    """Money for a million output tokens of good requests; None: it is not known."""


class SweepRecord(msgspec.Struct, frozen=True):
    """A whole sweep."""

    penstock: str
    started_at: str
    scenario: Scenario
    machine: RunMachine
    target: float
    """The share of requests that must be good."""
    outcome: SweepOutcome
    rate: float
    """The highest rate at which the SLOs hold; 0.0: none is known."""
    low: float
    """With `high`: it lies between them with 80 %."""
    high: float
    first_broken: str
    """Which SLO broke first; "": none did."""
    probes: tuple[SweepProbe, ...]
    """In the order in which they were made."""
    why: str = ""
    """broken_off: why the next run could not be made."""
    format: Literal["penstock-load-sweep"] = "penstock-load-sweep"
    version: Literal[1] = 1


def encode_sweep(sweep: SweepRecord) -> bytes:
    """As JSON."""
    hidden = msgspec.structs.replace(sweep, scenario=without_secrets(sweep.scenario))
    return msgspec.json.encode(hidden, enc_hook=encodable) + b"\n"


def read_sweep(path: Path) -> SweepRecord:
    """Raises RecordError."""
    try:
        return msgspec.json.decode(read_bytes(path), type=SweepRecord, dec_hook=lambda kind, value: kind(value))
    except msgspec.DecodeError as error:
        raise RecordError(f"{path} is not a sweep of this version, or is damaged: {error}") from None


def is_sweep(path: Path) -> bool:
    """Whether the file says that it is one. Raises RecordError."""
    try:
        return msgspec.json.decode(read_bytes(path), type=_Kind).format == "penstock-load-sweep"
    except msgspec.DecodeError as error:
        raise RecordError(f"{path} is not a record: {error}") from None
