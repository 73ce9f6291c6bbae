"""Sequential tests for experiments. The result may be checked after every answer without more false alarms.

Both are e-processes: bets against the null hypothesis whose expected value under it is at most 1 at every time, so that
by Ville's inequality the probability of ever reaching 1 / alpha is at most alpha.

`WorseTest`: is the arm's rate of bad answers higher than control's? Answers are tested in blocks of one of the arm and
several of control. The likelihood of a block under the rates estimated from earlier blocks is divided by that under the
closest common rate (Turner, Ly and Grünwald, "Generic E-variables for exact sequential k-sample tests that allow for
optional stopping", section 2). While the arm is estimated to be no worse, nothing is bet.

`SampleRatioTest`: did the arms get their configured shares of units? A Dirichlet mixture against the multinomial of
these shares (Lindon and Malek, "Anytime-valid inference for multinomial count data", section 3).
"""

import math
from collections import deque
from collections.abc import Mapping

_MAX_BLOCK = 20
"""Limit on the answers of control in one block."""
_PRIOR_UNITS = 100.0
"""Weight of the mixture's prior, in units; its mean is the configured shares."""
_MAX_WAITING = 10_000
"""Limit on the answers of an arm that wait for the rest of their block."""


class WorseTest:
    """One metric of one arm against control."""

    def __init__(self, control_per_arm: float) -> None:
        """`control_per_arm`: the expected number of control's answers for one answer of the arm."""
        self._block = min(max(round(control_per_arm), 1), _MAX_BLOCK)
        self._control: deque[bool] = deque(maxlen=_MAX_WAITING)
        self._arm: deque[bool] = deque(maxlen=_MAX_WAITING)
        # Beta(1/2, 1/2) priors, so that no rate is estimated as 0 or 1.
        self._bad = [0.5, 0.5]
        self._seen = [1.0, 1.0]
        self.log_e = 0.0
        self.highest_log_e = 0.0
        self.answers = [0, 0]
        """Counts of control and of the arm; `bad` likewise."""
        self.bad = [0, 0]

    def add(self, *, arm: bool, bad: bool) -> None:
        self.answers[arm] += 1
        self.bad[arm] += bad
        (self._arm if arm else self._control).append(bad)
        while len(self._control) >= self._block and self._arm:
            self._bet([self._control.popleft() for _ in range(self._block)], self._arm.popleft())

    def rejects(self, alpha: float) -> bool:
        """Whether the arm was significantly worse at any time so far."""
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
    """Compares the arms' counts of units with their configured shares."""

    def __init__(self, arms: Mapping[str, float]) -> None:
        total = sum(arms.values())
        self._shares = {arm: percent / total for arm, percent in arms.items() if percent > 0}
        self._prior = {arm: share * _PRIOR_UNITS for arm, share in self._shares.items()}
        self.counts = dict.fromkeys(self._shares, 0)
        self._log_e = 0.0
        self._highest = 0.0

    def add(self, arm: str) -> None:
        if arm not in self._shares:
            return
        # The mixture's predictive probability of this arm, divided by the configured share.
        seen = sum(self.counts.values())
        chance = (self._prior[arm] + self.counts[arm]) / (sum(self._prior.values()) + seen)
        self._log_e += math.log(chance / self._shares[arm])
        self._highest = max(self._highest, self._log_e)
        self.counts[arm] += 1

    def rejects(self, alpha: float) -> bool:
        return self._highest >= -math.log(alpha)
