"""What an answer's JSON may be, so that nothing in it is more than the load tester can count and write. Sans-IO."""

import msgspec

MOST = 10**12
"""Beyond it no number of an answer is one of tokens, milliseconds or money; sums of millions of them fit 64 bits."""
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises: no JSON, not the form, a number of thousands of digits, no UTF-8, or nested too deeply."""


def bounded(value: object) -> float | None:
    """A number; None: it is none, or is beyond `MOST`."""
    return float(value) if isinstance(value, int | float) and -MOST <= value <= MOST else None
