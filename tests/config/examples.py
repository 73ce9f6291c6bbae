"""What the documents' examples leave open, filled in."""

import re
from itertools import count


def with_hashes(text: str) -> str:
    """Each `hash = "…"` with a hash of its own: a key is in one list only."""
    numbers = count()
    return re.sub('hash = "…"', lambda _: f'hash = "{next(numbers):064x}"', text)
