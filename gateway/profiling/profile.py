"""The profile of a machine: step costs, measured by `penstock engine profile`, read by the simulation. JSON.

A step's time is a sum of non-negative parts, so that it can be read and written by hand:

    fixed + sequences · s + samples · r + pieces(tokens) + context · c + attention · a

`context` is the sum of the context lengths of the decodes (sequences with one token in the step); `attention` is, over
the prefill chunks, the sum of tokens · (tokens computed before + tokens / 2). `pieces` is piecewise linear in all the
tokens of the step.
"""

from math import gcd
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from engine.scheduling.plan import Share

_NOISE = 1.1
_LONGEST = 50.0
"""Factor over a step's own time that no service reaches."""


class BadProfile(Exception):  # noqa: N818  (a fact about a file)
    """The profile cannot be used; the message says why and what to do."""


class StepShape(msgspec.Struct, frozen=True, gc=False):
    """The quantities of one step that determine its time."""

    tokens: int
    sequences: int
    samples: int
    context: int
    attention: float


class StepCost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The coefficients of the formula in the module's docstring, in seconds."""

    fixed: float
    per_sequence: float = 0.0
    per_sample: float = 0.0
    per_context_token: float = 0.0
    per_attention: float = 0.0
    knots: tuple[int, ...] = (0,)
    """Token counts from which the slope at the same index holds; the first is 0."""
    slopes: tuple[float, ...]
    """Seconds per token, one for each knot."""

    def pieces(self, tokens: int) -> float:
        """The part that depends on the number of tokens."""
        total = 0.0
        for index, (begin, slope) in enumerate(zip(self.knots, self.slopes, strict=True)):
            end = self.knots[index + 1] if index + 1 < len(self.knots) else tokens
            total += slope * max(min(tokens, end) - begin, 0)
        return total

    def seconds(self, shape: StepShape, pieces: float | None = None) -> float:
        """`pieces`: that part, if it is known."""
        base = self.fixed + self.per_sequence * shape.sequences + self.per_sample * shape.samples
        base += self.pieces(shape.tokens) if pieces is None else pieces
        return (base + self.per_context_token * shape.context) + self.per_attention * shape.attention


class ProfilePoint(msgspec.Struct, frozen=True):
    """One measured shape: the fastest of `count` steps."""

    shape: StepShape
    seconds: float
    count: int
    fitted: float


class FitError(msgspec.Struct, frozen=True):
    """The fit's error relative to the measured times."""

    median: float
    p90: float
    worst: float


class ServiceTimes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The time of a step in service, where the event loop, readers and other engines share cores and interpreter.

    A step takes `factor` times its own time, `per_sample` for each token that it generates, and a pause.
    """

    factor: float = 1.0
    per_sample: float = 0.0
    pauses: tuple[float, ...] = (0.0,)
    """Seconds, at evenly spaced quantiles; steps use them in turn, in a mixed order. Their mean is the measured one."""


class EngineProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The profile of one engine."""

    cost: StepCost
    max_model_len: int
    """The model's own limit."""
    kv_token_bytes: int
    """KV bytes of one token."""
    kv_bytes: int = 0
    """Size of the KV pool during the measurement, which is the value of `kv.memory = "auto"`."""
    tokenizer: str = ""
    """Engines with equal, non-empty values share a tokenizer."""
    model: str = ""
    """Description of the model."""
    spread: tuple[float, ...] = (1.0,)
    """Measured over fitted time, as quantiles; steps use them in a seeded order."""
    served: ServiceTimes = ServiceTimes()
    """Times in service while no other engine of the process computes."""
    beside: ServiceTimes | None = None
    """Times while another engine computes; None: the same as `served`."""
    error: FitError | None = None
    points: tuple[ProfilePoint, ...] = ()


class UpstreamProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times of an upstream, constant at every load up to its `concurrent`."""

    ttft_s: float
    """Seconds from sending the request to its first token."""
    itl_s: float
    """Seconds between two tokens."""


class ServiceCost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Time that a request takes outside the engine."""

    arrival_s: float = 0.0
    """Seconds from the request's arrival to its queue: template, tokens, decision, quota, ledger entry."""
    delivery_s: float = 0.0
    """Seconds from a step's end to the reader."""


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine with the engines of a configuration."""

    penstock_profile: Literal[1]
    machine: str
    made: str = ""
    """When and with which versions it was measured."""
    cores: int = 0
    """Cores that the process could use, the value of `[cores] at_once = "auto"`. 0: unknown."""
    engines: dict[str, EngineProfile]
    upstreams: dict[str, UpstreamProfile] = msgspec.field(default_factory=dict)
    """Times of upstreams, written by hand. A simulated upstream without them refuses every request."""
    encoders: tuple[str, ...] = ()
    """Engines that make embeddings. They are not simulated: they refuse every request."""
    service: ServiceCost = msgspec.field(default=ServiceCost(), name="house")


def read_profile(path: Path) -> Profile:
    """Read and check a profile. Raises BadProfile."""
    try:
        profile = msgspec.json.decode(path.read_bytes(), type=Profile)
    except OSError as error:
        what = error.strerror or str(error)
        raise BadProfile(f"{path} cannot be read ({what}): make it with `penstock engine profile`") from None
    except msgspec.DecodeError as error:
        raise BadProfile(f"{path} is not a profile: {error}") from None
    for name, upstream in profile.upstreams.items():
        if not (upstream.ttft_s > 0 and upstream.itl_s > 0):
            raise BadProfile(f"{path}: upstream '{name}': ttft_s and itl_s must be above 0")
    for name, engine in profile.engines.items():
        cost = engine.cost
        if len(cost.knots) != len(cost.slopes) or list(cost.knots) != sorted({0, *cost.knots}):
            raise BadProfile(f"{path}: engine '{name}': knots must rise from 0, with one slope each")
        if cost.seconds(StepShape(1, 1, 1, 1, 0.0)) <= 0 or not engine.spread or min(engine.spread) <= 0:
            raise BadProfile(f"{path}: engine '{name}': a step must take some time")
        for service in (engine.served, engine.beside or engine.served):
            if service.factor <= 0 or service.per_sample < 0 or not service.pauses or min(service.pauses) < 0:
                raise BadProfile(
                    f"{path}: engine '{name}': 'served' and 'beside' need a factor above 0, pauses, no negative time"
                )
    return profile


def shape_of(shares: list[Share]) -> StepShape:
    """The shape of a planned step."""
    tokens = samples = context = 0
    attention = 0.0
    for share in shares:
        count, start = share.tokens, share.sequence.computed
        tokens += count
        samples += share.samples
        if count == 1:
            context += start + 1
        else:
            attention += count * (start + count / 2)
    return StepShape(tokens, len(shares), samples, context, attention)


class EngineTimes:
    """One engine's costs, precomputed for millions of steps."""

    def __init__(self, profile: EngineProfile, most_tokens: int, order: tuple[int, ...]) -> None:
        """`order`: a permutation of the indices of the spread."""
        self._cost = profile.cost
        self._pieces = [profile.cost.pieces(tokens) for tokens in range(most_tokens + 1)]
        self._spread = np.array([profile.spread[place] for place in order])
        services = (profile.served, profile.beside or profile.served)
        self._services = [(service.factor, service.per_sample, _mixed(service.pauses)) for service in services]

    def step(self, shape: StepShape, number: int, *, beside: bool) -> float:
        seconds = self._cost.seconds(shape, self._pieces[shape.tokens])
        seconds *= float(self._spread[number % len(self._spread)])
        factor, per_sample, pauses = self._services[beside]
        return (seconds * factor + per_sample * shape.samples) + float(pauses[number % len(pauses)])

    def decodes(
        self, began: float, rows: int, context: int, number: int, steps: int, *, beside: bool
    ) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        """End times of `steps` steps of `rows` decodes, equal to the last bit to summing `step` one by one."""
        cost = self._cost
        places = np.arange(steps)
        base = cost.fixed + cost.per_sequence * rows + cost.per_sample * rows + self._pieces[rows]
        seconds = (base + cost.per_context_token * (context + rows * places)) + cost.per_attention * 0.0
        seconds *= self._spread[(number + places) % len(self._spread)]
        factor, per_sample, pauses = self._services[beside]
        seconds = (seconds * factor + per_sample * rows) + pauses[(number + places) % len(pauses)]
        ends = np.empty(steps + 1)
        ends[0] = began
        ends[1:] = seconds
        return np.cumsum(ends)[1:]


def _mixed(values: tuple[float, ...]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """The sorted values, reordered so that short and long ones alternate."""
    count = len(values)
    stride = round(count * 0.382)
    while gcd(stride, count) != 1:
        stride += 1
    return np.array([values[place * stride % count] for place in range(count)])


def doubts(profile: Profile) -> tuple[str, ...]:
    """A sentence for each engine with implausible times, which other load during the measurement can cause."""
    return tuple([f"engine {name}: {doubt}" for name, engine in profile.engines.items() if (doubt := _doubt(engine))])


def _doubt(engine: EngineProfile) -> str:
    shape = StepShape(1, 1, 1, engine.max_model_len // 4, 0.0)
    own = engine.cost.seconds(shape)
    alone = _seconds(engine.served, own)
    beside = _seconds(engine.beside or engine.served, own)
    if alone > _NOISE * beside:
        return (
            f"a decode takes {1000 * alone:.2f} ms alone and {1000 * beside:.2f} ms beside another busy "
            "engine; the machine was not idle"
        )
    if beside > _LONGEST * own:
        return f"a decode takes {1000 * own:.2f} ms, and {1000 * beside:.2f} ms in service; the machine was not idle"
    return ""


def _seconds(service: ServiceTimes, own: float) -> float:
    """Mean time in service of a step that decodes one sequence."""
    return service.factor * own + service.per_sample + sum(service.pauses) / len(service.pauses)
