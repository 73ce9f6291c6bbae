"""Load balancing over an upstream's addresses. Sans-IO.

The healthy one with the fewest outstanding calls is called, or the one that knows the conversation, if it has not many
more (`policies.queueing.address_affinity`).

An address that fails is skipped for a backoff that doubles with every consecutive failure, and one that does worse than
the others is ejected (`outliers.py`). If that leaves none, the one whose backoff ends first is used, because the
breaker decides about the rung as a whole. A pause that an address has requested (429 or 503 with Retry-After) is always
honoured.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from actors.api.statistics import ReplicaStatistics
from actors.upstream.outliers import Outliers
from policies.errors import IntegrityError
from policies.queueing.address_affinity import bears

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0


class AllPaused(msgspec.Struct, frozen=True, gc=False):
    """All addresses have requested a pause."""

    retry_after_s: float
    failing: bool = False
    """The address whose pause ends first requested it after a failure, not because of load."""


class _Replica:
    __slots__ = ("backoff_until", "failed_total", "failing", "failures", "outstanding", "paused_until", "started_total")

    def __init__(self) -> None:
        self.outstanding = 0
        self.started_total = 0
        self.failed_total = 0
        self.failures = 0
        """Consecutive failures."""
        self.backoff_until = float("-inf")
        self.paused_until = float("-inf")
        self.failing = False
        """The requested pause followed a failure."""


class Replicas:
    """All addresses of one upstream, by their index. `now` must not decrease."""

    def __init__(self, count: int) -> None:
        self._replicas = [_Replica() for _ in range(count)]
        self._outliers = Outliers(count)

    def choose(self, now: float, tried: Sequence[int] = (), knows: int | None = None) -> int | AllPaused | None:
        """The address for the next call; follow with one `end`. None: all of them were `tried`.

        `knows`: the one that has answered this conversation before, which is preferred within bounds.
        """
        left = [number for number in range(len(self._replicas)) if number not in tried]
        if not left:
            return None
        willing = [number for number in left if self._replicas[number].paused_until <= now]
        if not willing:
            soonest = min([self._replicas[number] for number in left], key=lambda candidate: candidate.paused_until)
            return AllPaused(soonest.paused_until - now, soonest.failing)
        healthy = [
            number
            for number in willing
            if self._replicas[number].backoff_until <= now and not self._outliers.is_ejected(number, now)
        ]
        if (
            knows is not None
            and knows in healthy
            and bears(self._replicas[knows].outstanding, min([self._replicas[each].outstanding for each in healthy]))
        ):
            number = knows
        elif healthy:
            number = min(
                healthy,
                key=lambda candidate: (self._replicas[candidate].outstanding, self._replicas[candidate].started_total),
            )
        else:
            number = min(willing, key=lambda candidate: self._replicas[candidate].backoff_until)
        self._replicas[number].outstanding += 1
        self._replicas[number].started_total += 1
        return number

    def end(
        self,
        number: int,
        ok: bool | None,
        now: float,
        *,
        retry_after_s: float | None = None,
        ttft_s: float | None = None,
    ) -> Literal["fails", "slow"] | None:
        """Record the outcome of a call. `ok` None: the outcome says nothing about the address.

        `ttft_s`: the time to its first output; None: it had none. Returns why the address is ejected, if it is now.
        """
        replica = self._replicas[number]
        replica.outstanding -= 1
        if retry_after_s is not None:
            replica.paused_until = max(replica.paused_until, now + retry_after_s)
            replica.failing = ok is False
        if ok:
            replica.failures = 0
            replica.backoff_until = float("-inf")
        elif ok is False:
            replica.failed_total += 1
            if replica.backoff_until <= now:
                # Calls that fail concurrently count as one failure.
                replica.failures += 1
                replica.backoff_until = now + min(FIRST_BACKOFF_S * 2.0 ** min(replica.failures - 1, 16), MAX_BACKOFF_S)
        return self._outliers.record(number, ok, ttft_s, now)

    def statistics(self, now: float) -> tuple[ReplicaStatistics, ...]:
        return tuple(
            ReplicaStatistics(
                outstanding=replica.outstanding,
                started_total=replica.started_total,
                failed_total=replica.failed_total,
                rests_for_s=max(
                    replica.backoff_until - now, replica.paused_until - now, self._outliers.ejected_for_s(number, now)
                ),
                ejected_total=self._outliers.ejected_total[number],
            )
            for number, replica in enumerate(self._replicas)
        )

    def check_integrity(self) -> None:
        """Raise `IntegrityError` if a call was ended twice."""
        if any(replica.outstanding < 0 for replica in self._replicas):
            raise IntegrityError("an address has fewer than no calls")
