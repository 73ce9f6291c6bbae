"""The pause that a server requests in its response headers. Pure: the wall clock is passed as a value."""

import datetime as dt
import email.utils
import re
from collections.abc import Mapping

MAX_PAUSE_S = 600.0
"""Maximum; longer pauses are cut to this."""
_FIRST_MOMENT = 1e9
"""A larger number of seconds is a Unix timestamp (after 2001), not a duration."""
_NUMBER = re.compile(r"\d{1,18}(\.\d{1,18})?")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(?:\d{1,9}(?:\.\d{1,9})?(?:ms|[smhd]))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")


def requested_pause_s(headers: Mapping[str, str], wall_now_s: float, *, limits: bool = False) -> float | None:
    """The pause in seconds; None: none is requested, or it cannot be parsed. `headers`: by lower-case names.

    A date is relative to the response's own `Date`, because clocks differ; without one, to `wall_now_s` (Unix time).
    `limits`: without any other header, use the reset time of exhausted rate limits.
    """
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    after = headers.get("retry-after")
    seconds = _seconds(after)
    if seconds is None and after is not None:
        seconds = _duration(after)
    if seconds is not None and seconds > _FIRST_MOMENT:
        # Some servers send a Unix timestamp in seconds or milliseconds.
        sent_at = _date(headers.get("date"))
        seconds /= 1000 if seconds > _FIRST_MOMENT * 1000 else 1
        seconds -= sent_at if sent_at is not None else wall_now_s
    if seconds is not None:
        return _bounded(seconds)
    at = _date(after)
    if at is not None:
        sent_at = _date(headers.get("date"))
        return _bounded(at - (sent_at if sent_at is not None else wall_now_s))
    return _until_reset(headers) if limits else None


def _until_reset(headers: Mapping[str, str]) -> float | None:
    """OpenAI's `x-ratelimit-reset-*` of exhausted limits; only durations such as "6m0s"."""
    waits = []
    for of in ("requests", "tokens"):
        if (headers.get(f"x-ratelimit-remaining-{of}") or "").strip() != "0":
            continue
        wait = _duration(headers.get(f"x-ratelimit-reset-{of}") or "")
        if wait is not None:
            waits.append(wait)
    return _bounded(max(waits)) if waits else None


def _duration(text: str) -> float | None:
    """Seconds of a duration such as "6m0s"."""
    text = text.strip().lower()
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))


def _seconds(text: str | None) -> float | None:
    text = (text or "").strip()
    return float(text) if _NUMBER.fullmatch(text) and text.isascii() else None


def _date(text: str | None) -> float | None:
    """Unix time of any of the three date formats of RFC 9110, section 5.6.7, all in UTC."""
    if text is None or len(text) > 64:
        return None
    parts = email.utils.parsedate(text)
    if parts is None:
        return None
    try:
        return dt.datetime(*parts[:6], tzinfo=dt.UTC).timestamp()
    except ValueError:
        return None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_PAUSE_S)
