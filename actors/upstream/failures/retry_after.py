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
_UNIT_WORD = re.compile(r"\s*(millisecond|second|sec|minute|min|hour|day)s?\b[\s,]*")
_UNITS = {"millisecond": "ms", "second": "s", "sec": "s", "minute": "m", "min": "m", "hour": "h", "day": "d"}
_ISO = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:")
_MAX_LIST = 64
"""Characters of several values in one header."""


def requested_pause_s(headers: Mapping[str, str], wall_now_s: float, *, limits: bool = False) -> float | None:
    """The pause in seconds; None: none is requested, or it cannot be parsed. `headers`: by lower-case names.

    A date is relative to the response's own `Date`, because clocks differ; without one, to `wall_now_s` (Unix time).
    `limits`: without any other header, use the reset time of exhausted rate limits.
    """
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    sent_at = _date(headers.get("date"))
    now_s = sent_at if sent_at is not None else wall_now_s
    pause_s = _pause(headers.get("retry-after") or "", now_s)
    if pause_s is None and limits:
        pause_s = _until_reset(headers, now_s)
    return None if pause_s is None else _bounded(pause_s)


def _pause(text: str, now_s: float) -> float | None:
    """Of a number of seconds, a duration, or a moment, in quotes or not; of several ("9, 9"), the longest."""
    text = text.strip(" \t\"'")
    seconds = _seconds(text)
    if seconds is None:
        seconds = _duration(text)
    if seconds is not None and seconds <= _FIRST_MOMENT:
        return seconds
    if seconds is not None:
        # Some servers send a Unix timestamp in seconds or milliseconds.
        return seconds / (1000 if seconds > _FIRST_MOMENT * 1000 else 1) - now_s
    if (at := _date(text)) is not None:
        return at - now_s
    if "," not in text or len(text) > _MAX_LIST:
        return None
    pauses = [pause for part in text.split(",") if (pause := _pause(part, now_s)) is not None]
    return max(pauses, default=None)


def _until_reset(headers: Mapping[str, str], now_s: float) -> float | None:
    """OpenAI's `x-ratelimit-reset-*` of exhausted limits."""
    waits = []
    for of in ("requests", "tokens"):
        if (headers.get(f"x-ratelimit-remaining-{of}") or "").strip() != "0":
            continue
        wait = _pause(headers.get(f"x-ratelimit-reset-{of}") or "", now_s)
        if wait is not None:
            waits.append(wait)
    return max(waits, default=None)


def _duration(text: str) -> float | None:
    """Seconds of a duration such as "6m0s" or "1 minute 30 seconds"."""
    text = "".join(_UNIT_WORD.sub(lambda unit: _UNITS[unit[1]], text.lower()).split())
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))


def _seconds(text: str | None) -> float | None:
    text = (text or "").strip()
    return float(text) if _NUMBER.fullmatch(text) and text.isascii() else None


def _date(text: str | None) -> float | None:
    """Unix time of any of the three date formats of RFC 9110, section 5.6.7, or of ISO 8601; in UTC without a zone."""
    if text is None or len(text) > 64:
        return None
    if _ISO.match(text):
        try:
            at = dt.datetime.fromisoformat(text)
        except ValueError:
            return None
        return (at if at.tzinfo is not None else at.replace(tzinfo=dt.UTC)).timestamp()
    parts = email.utils.parsedate(text)
    if parts is None:
        return None
    try:
        return dt.datetime(*parts[:6], tzinfo=dt.UTC).timestamp()
    except ValueError:
        return None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_PAUSE_S)
