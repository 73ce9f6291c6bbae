"""The tenant's remaining rate limits as headers of Anthropic's API."""

import math
from datetime import UTC, datetime

from policies.admission.quota import RateLimits


def message_limit_lines(limits: RateLimits | None, at: float) -> bytes:
    """The `anthropic-ratelimit-…` header lines at `at`, seconds since 1970; b"" without limits."""
    if limits is None:
        return b""
    lines = []
    for name, window in (("requests", limits.requests), ("tokens", limits.tokens)):
        if window is not None:
            # Whole seconds, rounded up: who waits until then is not early.
            reset = datetime.fromtimestamp(math.ceil(at + window.resets_in_s), UTC)
            for word, value in (
                ("limit", window.limit),
                ("remaining", window.remaining),
                ("reset", f"{reset:%Y-%m-%dT%H:%M:%SZ}"),
            ):
                lines.append(f"anthropic-ratelimit-{name}-{word}: {value}\r\n")
    return "".join(lines).encode()
