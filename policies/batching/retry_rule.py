"""Whether a request of a batch that was refused is tried again, or gets its error as its result. Pure."""

MOST_FAILURES = 4
"""So often a request may fail by an error of a backend."""
_BUSY = frozenset({429, 503})
_DEFAULT_PAUSE_S = 1.0


def retry_after(status: int, *, should_retry: bool, retry_after_s: float | None, failures: int) -> float | None:
    """The pause before it is tried again; None: its error is final.

    Busy servers and limits that are reached say nothing of the request: it is tried again until its batch expires.
    `failures`: how often it has failed otherwise, this time included.
    """
    busy = status in _BUSY and (should_retry or retry_after_s is not None)
    if not busy and (not should_retry or failures >= MOST_FAILURES):
        return None
    return _DEFAULT_PAUSE_S if retry_after_s is None else retry_after_s
