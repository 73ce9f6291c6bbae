"""Margins of the small model's answers: recorded in the trace, or drawn at random where it has none.

A draw depends on the seed and the request only, so two policies are compared with equal draws.
"""

import math
from collections.abc import Mapping
from hashlib import blake2b

import msgspec

from config.model.calibration import Statistic
from policies.cascade.calibration import threshold_for_share
from policies.cascade.prompt_model import neutral_priors, threshold_at
from policies.cascade.statistic import falls, new_statistic
from policies.model.plan import PlannedCascade
from policies.records.trace import TraceRequest
from policies.routing.policy import Policy

_CERTAIN = math.inf


class Margins(msgspec.Struct, frozen=True):
    """The margins of one answer of the small model, one for each token.

    Either recorded ones, or drawn: infinite except for one token, or the same for all tokens.
    """

    known: tuple[float, ...]
    """Of the first tokens. Later ones are infinite, except `low` at token `place`."""
    place: int = 0
    """Counted from 1; 0: all later margins are `low`."""
    low: float = _CERTAIN

    def of(self, begin: int, end: int) -> tuple[float, ...]:
        """The margins of tokens `begin` + 1 to `end`."""
        known = self.known[begin:end]
        rest = range(begin + len(known) + 1, end + 1)
        return (*known, *[self.low if self.place in {0, token} else _CERTAIN for token in rest])

    def escalates_at(self, cascade: PlannedCascade, tokens: int) -> int | None:
        """The token at which an answer of `tokens` tokens is escalated before its end; None: at no token."""
        if not falls(cascade.statistic) or not tokens:
            return None
        if cascade.threshold == math.inf:
            return 1
        statistic = new_statistic(cascade.statistic)
        for token, margin in enumerate(self.known[:tokens], 1):
            statistic.add(margin)
            if not statistic.value >= cascade.threshold:
                return token
        if len(self.known) < self.place <= tokens:
            statistic.add(self.low)
            if not statistic.value >= cascade.threshold:
                return self.place
        return None


class UnknownMargins(Exception):  # noqa: N818  (a fact about the input)
    """A cascade needs margins that neither the trace nor a calibration provides; the message names the option."""

    def __init__(self, cascade: str, number: int) -> None:
        """`number`: of the request without margins, counted from 0."""
        super().__init__(
            f"cascade '{cascade}' has no calibration, and request {number + 1} of the trace, which it takes, "
            "has no margins: "
            f"give the share of its answers that are escalated, --escalate {cascade}=0.25"
        )


class SimulatedDraws:
    """Provides the margins for one simulation."""

    def __init__(self, seed: int, policy: Policy, shares: Mapping[str, float]) -> None:
        """`shares`: by cascade, the share of answers to escalate among requests without recorded margins."""
        self._seed = seed.to_bytes(16, "big", signed=True)
        self._shares = shares
        self._calibrations = {}
        for route in policy.routes:
            for variant in (route, *route.arms.values()):
                cascade = variant.cascade
                if cascade is None or cascade.name in shares:
                    continue
                if cascade.settings.defer.artefact is not None:
                    self._calibrations[cascade.name] = cascade.settings.defer.artefact

    def margins(self, number: int, request: TraceRequest, cascade: PlannedCascade, output_tokens: int) -> Margins:
        """The margins of the small model's answer to request `number`.

        Drawn ones have one low margin, at a uniformly distributed token. Raises UnknownMargins.
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
                raise UnknownMargins(cascade.name, number)
            value = threshold_for_share(calibration, chance)
            if calibration.prompt is not None:
                # A prompt without recorded priors counts as the average one.
                priors = request.priors.get(cascade.name) or neutral_priors(calibration.prompt)
                value = threshold_at(calibration.prompt, priors, value)
        return margins_with(cascade.statistic, value, place)


def margins_with(statistic: Statistic, value: float, place: int) -> Margins:
    """Margins of an answer whose statistic is `value`, of which token `place` is the doubtful one."""
    # A statistic that falls is the margin of that one token if all others are infinite; a quantile is that of all.
    return Margins((), place if falls(statistic) else 0, value)
