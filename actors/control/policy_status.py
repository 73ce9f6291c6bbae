"""What became of the attempts to change the policy, for everybody to read; only the policy reloader writes it."""

from collections import Counter

from actors.api.statistics import PolicyStatistics
from config.problems.errors import Problem


class PolicyStatus:
    """Outlives the reloader's restarts."""

    __slots__ = ("problems", "reloads", "since", "warnings")

    def __init__(self, since: float) -> None:
        self.since = since
        """When the policy that decides began to, seconds since 1970."""
        self.reloads: Counter[str] = Counter(swapped=0, unchanged=0, refused=0)
        self.problems: tuple[Problem, ...] = ()
        """Why the last attempt was refused; empty if it was not."""
        self.warnings: tuple[Problem, ...] = ()
        """Of the policy that decides."""

    def statistics(self, policy: str) -> PolicyStatistics:
        """`policy`: the digest of the one that decides."""
        return PolicyStatistics(policy, self.since, dict(self.reloads))
