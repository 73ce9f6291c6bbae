"""Which steps of a long load are worth a line in the log."""

_DIGITS = str.maketrans("", "", "0123456789")
_PAUSE_S = 1.0


class LoadProgress:
    """The first step of each kind, and of equal ones that only count ("layer 3 of 40") one a second."""

    def __init__(self) -> None:
        self._kind = ""
        self._logged_at = float("-inf")

    def is_due(self, step: str, now: float) -> bool:
        """Whether to log `step`; `now` in seconds on any clock."""
        kind = step.translate(_DIGITS)
        if kind == self._kind and now - self._logged_at < _PAUSE_S:
            return False
        self._kind, self._logged_at = kind, now
        return True
