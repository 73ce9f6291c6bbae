"""When a request is sent again, as the official OpenAI clients decide it (`_base_client.py` of openai-python)."""

import email.utils
import math
import re

_FIRST_S = 0.5
_LONGEST_S = 8.0
_LONGEST_SAID_S = 60.0
_STATUSES = frozenset({408, 409, 429})
_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms)?")


def is_retried(status: int, should_retry: str) -> bool:
    """`status`: 0 for a connection that failed before the answer. `should_retry`: the header `x-should-retry`."""
    if should_retry in {"true", "false"}:
        return should_retry == "true"
    return status == 0 or status in _STATUSES or status >= 500


def pause_before(attempt: int, retry_after: str, jitter: float, now: float) -> float:
    """Seconds to wait before attempt 2, 3, …: what the server says if that is sensible, else doubling waits.

    `retry_after`: seconds, an HTTP date, or milliseconds such as "1500ms". `jitter`: 0 to 1. `now`: the wall clock.
    """
    said = _said(retry_after, now)
    if 0 < said <= _LONGEST_SAID_S:
        return said
    return min(_FIRST_S * math.pow(2.0, max(attempt - 2, 0)), _LONGEST_S) * (1 - 0.25 * jitter)


def _said(retry_after: str, now: float) -> float:
    """0.0: nothing that can be understood."""
    if match := _NUMBER.fullmatch(retry_after.strip()):
        return float(match[1]) / (1000 if match[2] else 1)
    try:
        return email.utils.parsedate_to_datetime(retry_after).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return 0.0
