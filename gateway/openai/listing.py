"""Lists of objects, page by page, as OpenAI's API writes them."""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.errors import BadField

_DIGITS = 6


def limit_of(parameters: Mapping[str, str], default: int, most: int) -> int:
    """How many objects a page is to have. Raises BadField."""
    given = parameters.get("limit", str(default))
    if not (given.isascii() and given.isdecimal()) or len(given) > _DIGITS or not 1 <= int(given) <= most:
        raise BadField("limit", f"'limit' must be a number from 1 to {most}.")
    return int(given)


def listed(objects: Sequence[Mapping[str, Any]], limit: int) -> dict[str, Any]:
    """The first page of these objects, which are more than `limit` if there is another one."""
    page = objects[:limit]
    return {
        "object": "list",
        "data": page,
        "has_more": len(objects) > limit,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }
