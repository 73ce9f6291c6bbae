"""A tenant's remaining rate limits, as OpenAI's headers and for the WebSocket."""

from typing import Any

from policies.admission.rate_limits import RateLimits

_MINUTE_S, _HOUR_S = 60, 3600


def limit_lines(limits: RateLimits | None) -> bytes:
    """The `x-ratelimit-…` header lines; b"" without limits."""
    if limits is None:
        return b""
    fields = limit_fields(limits)
    return b"".join(
        [b"x-ratelimit-%b: %b\r\n" % (_header(name), str(value).encode()) for name, value in fields.items()]
    )


def limit_fields(limits: RateLimits) -> dict[str, Any]:
    """The same as an object, with the header names without `x-ratelimit-` and with underscores."""
    windows = {
        name: window
        for name, window in (("requests", limits.requests), ("tokens", limits.tokens))
        if window is not None
    }
    return (
        {f"limit_{name}": window.limit for name, window in windows.items()}
        | {f"remaining_{name}": window.remaining for name, window in windows.items()}
        | {f"reset_{name}": duration(window.resets_in_s) for name, window in windows.items()}
    )


def duration(seconds: float) -> str:
    """A duration in OpenAI's (Go's) format, rounded up: "0s", "12ms", "8.64s", "6m0s", "23h59m1s"."""
    if seconds <= 0:
        return "0s"
    milliseconds = -int(-seconds * 1000 // 1)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    if milliseconds < _MINUTE_S * 1000:
        return f"{milliseconds / 1000:g}s"
    whole = -(-milliseconds // 1000)
    hours, rest = divmod(whole, _HOUR_S)
    minutes, left = divmod(rest, _MINUTE_S)
    return f"{hours}h{minutes}m{left}s" if hours else f"{minutes}m{left}s"


def _header(name: str) -> bytes:
    return name.replace("_", "-").encode()
