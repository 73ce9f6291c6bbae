"""What a trace does not tell, drawn from a seed: how sure the small model is of each answer.

Draws depend on the seed and the request alone, so that two policies are compared on the same luck.
"""

from collections.abc import Mapping
from hashlib import blake2b

from policies.calibration import threshold_for_share
from policies.plan import PlannedCascade
from policies.policy import Policy
from policies.trace import TraceRequest

Margins = tuple[tuple[int, float], ...]
"""See `TraceRequest.margins`."""


class UnknownMargins(Exception):  # noqa: N818  (a fact about the input)
    """Neither the trace nor the policy says how sure the small model is; the text says what to give."""


class Draws:
    """One simulation's."""

    def __init__(self, seed: int, policy: Policy, shares: Mapping[str, float], trace: tuple[TraceRequest, ...]) -> None:
        """`shares`: by cascade, of the answers that are not sure enough, where no calibration says it.

        Raises UnknownMargins.
        """
        self._seed = seed.to_bytes(16, "big", signed=True)
        self._shares = shares
        self._calibrations = {}
        recorded = all(request.margins for request in trace)
        for route in policy.routes:
            for each in (route, *route.arms.values()):
                cascade = each.cascade
                if cascade is None or cascade.name in shares:
                    continue
                if cascade.settings.defer.artefact is not None:
                    self._calibrations[cascade.name] = cascade.settings.defer.artefact
                elif not recorded and cascade.settings.emit.mode != "verified":
                    raise UnknownMargins(
                        f"cascade '{cascade.name}' has a threshold and no calibration, and not every request of the "
                        f"trace has margins: give the share that it escalates, --escalate {cascade.name}=0.25"
                    )

    def margins(self, number: int, request: TraceRequest, cascade: PlannedCascade, output_tokens: int) -> Margins:
        """Of the small model's answer to request `number`. The place of a low margin is taken to be uniform."""
        share = self._shares.get(cascade.name)
        if request.margins and share is None:
            return request.margins
        digest = blake2b(self._seed + number.to_bytes(8, "big"), digest_size=16).digest()
        chance = int.from_bytes(digest[:8], "big") / 2**64
        place = 1 + int(int.from_bytes(digest[8:], "big") / 2**64 * output_tokens)
        if share is not None:
            return ((place, float("-inf") if chance < share else float("inf")),)
        calibration = self._calibrations.get(cascade.name)
        assert calibration is not None, "the constructor has seen to it"
        return ((place, threshold_for_share(calibration, chance)),)
