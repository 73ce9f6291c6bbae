"""What a trace does not tell, drawn from a seed: how sure the small model is of each answer.

Draws depend on the seed and the request alone, so that two policies are compared on the same luck.
"""

import math
from collections.abc import Mapping
from hashlib import blake2b

from config.model.calibration import Statistic
from policies.cascade.calibration import threshold_for_share
from policies.cascade.prompt_model import neutral_priors, threshold_at
from policies.cascade.statistic import falls, new_statistic
from policies.model.plan import PlannedCascade
from policies.records.trace import TraceRequest
from policies.routing.policy import Policy

_SURE = math.inf


class Margins:
    """Of one answer of the small model, token by token: recorded, or all but one without a doubt."""

    __slots__ = ("_known", "_low", "_place")

    def __init__(self, known: tuple[float, ...], place: int = 0, low: float = _SURE) -> None:
        """`known` from the first token on; behind them no doubt, but for `low` at token `place` (0: at every one)."""
        self._known = known
        self._place = place
        self._low = low

    def of(self, begin: int, end: int) -> tuple[float, ...]:
        """Of the tokens `begin` + 1 to `end`."""
        found = self._known[begin:end]
        rest = end - begin - len(found)
        if not rest:
            return found
        if not self._place:
            return (*found, *[self._low] * rest)
        first = begin + len(found) + 1
        return (*found, *[self._low if token == self._place else _SURE for token in range(first, end + 1)])

    def gives_up_at(self, cascade: PlannedCascade, tokens: int) -> int | None:
        """The token at which an answer of so many is given up before its end; None: not before the end."""
        if not falls(cascade.statistic) or not tokens:
            return None
        if cascade.threshold == math.inf:
            return 1
        statistic = new_statistic(cascade.statistic)
        for token in range(1, min(len(self._known), tokens) + 1):
            statistic.add(self._known[token - 1])
            if not statistic.value >= cascade.threshold:
                return token
        if len(self._known) < self._place <= tokens:
            statistic.add(self._low)
            if not statistic.value >= cascade.threshold:
                return self._place
        return None


class UnknownMargins(Exception):  # noqa: N818  (a fact about the input)
    """Neither the trace nor the policy says how sure the small model is; the text says what to give."""

    def __init__(self, cascade: str, lacks: str) -> None:
        """`lacks`: what of the trace has no margins."""
        super().__init__(
            f"cascade '{cascade}' has a threshold and no calibration, and {lacks} has no margins: "
            f"give the share that it escalates, --escalate {cascade}=0.25"
        )


class SimulatedDraws:
    """One simulation's."""

    def __init__(self, seed: int, policy: Policy, shares: Mapping[str, float], trace: tuple[TraceRequest, ...]) -> None:
        """`shares`: by cascade, of the answers that are not sure enough, where the trace does not say it.

        Raises UnknownMargins if the trace says nothing of it. Of a recording that is found out only when a cascade
        takes a request that has none: what upstreams and large models have answered needs none.
        """
        self._seed = seed.to_bytes(16, "big", signed=True)
        self._shares = shares
        self._calibrations = {}
        recorded = any(request.margins for request in trace)
        for route in policy.routes:
            for each in (route, *route.arms.values()):
                cascade = each.cascade
                if cascade is None or cascade.name in shares:
                    continue
                if cascade.settings.defer.artefact is not None:
                    self._calibrations[cascade.name] = cascade.settings.defer.artefact
                elif not recorded and cascade.settings.emit.mode != "verified":
                    raise UnknownMargins(cascade.name, "the trace")

    def margins(self, number: int, request: TraceRequest, cascade: PlannedCascade, output_tokens: int) -> Margins:
        """Of the small model's answer to request `number`. The place of a drawn doubt is taken to be uniform.

        Raises UnknownMargins.
        """
        if request.margins:
            return Margins(request.margins, 1)
        share = self._shares.get(cascade.name)
        digest = blake2b(self._seed + number.to_bytes(8, "big"), digest_size=16).digest()
        chance = int.from_bytes(digest[:8], "big") / 2**64
        place = 1 + int(int.from_bytes(digest[8:], "big") / 2**64 * output_tokens)
        if share is not None:
            value = -math.inf if chance < share else math.inf
        else:
            calibration = self._calibrations.get(cascade.name)
            if calibration is None:
                raise UnknownMargins(cascade.name, f"request {number + 1} of the trace, which it takes,")
            value = threshold_for_share(calibration, chance)
            if calibration.prompt is not None:
                # Of a prompt of which the trace tells nothing: it is the mean one.
                priors = request.priors.get(cascade.name) or neutral_priors(calibration.prompt)
                value = threshold_at(calibration.prompt, priors, value)
        return _with(cascade.statistic, value, place)


def _with(statistic: Statistic, value: float, place: int) -> Margins:
    """Margins whose statistic is `value`."""
    match statistic:
        case "min_margin":
            return Margins((), place, value)
        case "joint_margin":
            return Margins((), place, _one_doubt(value))
        case "low_quantile":
            return Margins((), 0, value)


def _one_doubt(joint: float) -> float:
    """The margin that alone makes a joint margin."""
    if joint >= 0:
        return math.inf
    return joint if joint < -30 else -math.log(math.expm1(-joint))
