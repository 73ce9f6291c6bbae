"""Sequential tests for experiments: one may look after every answer, and a false alarm stays as rare as promised.

Both are e-processes: a bet against the null hypothesis whose stake has, under it, an expectation of at most 1 at every
time, so that by Ville's inequality it reaches 1 / alpha with a probability of at most alpha, however long one looks.

`WorseTest`: is the arm's rate of bad answers higher than control's? In blocks, of one answer of the arm and several of
control each: the block's likelihood under the rates estimated from earlier blocks is compared with that under the
common rate nearest to them (Turner, Ly and Grünwald, "Generic E-variables for exact sequential k-sample tests that
allow for optional stopping", section 2). Where the arm looks no worse nothing is bet.

`SampleRatioTest`: did the arms get the shares that they should have? A Dirichlet mixture against the promised
multinomial (Lindon and Malek, "Anytime-valid inference for multinomial count data", section 3).
"""

import math
from collections import deque
from collections.abc import Mapping

_MOST_CONTROL = 20
"""Answers of control in one block at the most."""
_WAITING = 10_000


class WorseTest:
    """One metric of one arm against control."""

    def __init__(self, control_per_arm: float) -> None:
        """`control_per_arm`: how many answers of control come for one of the arm."""
        self._block = min(max(round(control_per_arm), 1), _MOST_CONTROL)
        self._control: deque[bool] = deque(maxlen=_WAITING)
        self._arm: deque[bool] = deque(maxlen=_WAITING)
        # Beta(1/2, 1/2) priors: no rate is ever estimated as 0 or 1.
        self._bad = [0.5, 0.5]
        self._seen = [1.0, 1.0]
        self.log_e = 0.0
        self.highest_log_e = 0.0
        self.answers = [0, 0]
        """Of control and of the arm."""
        self.bad = [0, 0]

    def add(self, *, arm: bool, bad: bool) -> None:
        """One answer."""
        self.answers[arm] += 1
        self.bad[arm] += bad
        (self._arm if arm else self._control).append(bad)
        while len(self._control) >= self._block and self._arm:
            self._bet([self._control.popleft() for _ in range(self._block)], self._arm.popleft())

    def rejects(self, alpha: float) -> bool:
        """Whether the arm was shown to be worse at any time so far."""
        return self.highest_log_e >= -math.log(alpha)

    def _bet(self, control: list[bool], arm: bool) -> None:
        rate_control, rate_arm = self._bad[0] / self._seen[0], self._bad[1] / self._seen[1]
        count, bad = len(control), sum(control)
        if rate_arm > rate_control:
            common = (count * rate_control + rate_arm) / (count + 1)
            self.log_e += bad * math.log(rate_control / common)
            self.log_e += (count - bad) * math.log((1 - rate_control) / (1 - common))
            self.log_e += math.log(rate_arm / common if arm else (1 - rate_arm) / (1 - common))
            self.highest_log_e = max(self.highest_log_e, self.log_e)
        self._bad[0] += bad
        self._seen[0] += count
        self._bad[1] += arm
        self._seen[1] += 1


class SampleRatioTest:
    """The arms' counts of units against their promised shares."""

    def __init__(self, arms: Mapping[str, float], strength: float = 100.0) -> None:
        """`strength`: how many units the mixture's prior is worth; it lies at the promise."""
        total = sum(arms.values())
        self._shares = {arm: percent / total for arm, percent in arms.items() if percent > 0}
        self._prior = {arm: share * strength for arm, share in self._shares.items()}
        self.counts = dict.fromkeys(self._shares, 0)
        self._log_e = 0.0
        self._highest = 0.0

    def add(self, arm: str) -> None:
        """One unit more."""
        if arm not in self._shares:
            return
        # The mixture's chance of this arm next, given the counts so far, over the promised one.
        seen = sum(self.counts.values())
        chance = (self._prior[arm] + self.counts[arm]) / (sum(self._prior.values()) + seen)
        self._log_e += math.log(chance / self._shares[arm])
        self._highest = max(self._highest, self._log_e)
        self.counts[arm] += 1

    def rejects(self, alpha: float) -> bool:
        """Whether chance explains the split less often than `alpha`."""
        return self._highest >= -math.log(alpha)
