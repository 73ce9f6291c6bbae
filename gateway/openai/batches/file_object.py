"""The `file` object, and how long a client wants a file to be kept."""

from typing import Annotated, Any

from actors.batches.records import FileRecord
from gateway.errors import BadField
from gateway.openai.requests.neutral import field_schema

_LEAST_S, _MOST_S = 3600, 2_592_000
_ANCHOR = "created_at"
Anchor = Annotated[str, field_schema(enum=[_ANCHOR])]
KeptSeconds = Annotated[int, field_schema(minimum=_LEAST_S, maximum=_MOST_S)]


def file_object(record: FileRecord) -> dict[str, Any]:
    """As the API writes it."""
    return {
        "id": record.id,
        "object": "file",
        "bytes": record.size,
        "created_at": int(record.created),
        "expires_at": int(record.expires),
        "filename": record.name,
        "purpose": record.purpose,
        "status": "processed",
        "status_details": None,
    }


def kept_for(anchor: str | None, seconds: int | None, name: str) -> float | None:
    """Seconds after which a file is deleted; None: the server decides. `name`: the field. Raises BadField."""
    if anchor is None and seconds is None:
        return None
    if anchor != _ANCHOR:
        raise BadField(f"{name}.anchor", f"'{name}.anchor' must be '{_ANCHOR}'.")
    if seconds is None or not _LEAST_S <= seconds <= _MOST_S:
        raise BadField(f"{name}.seconds", f"'{name}.seconds' must be from {_LEAST_S} to {_MOST_S}.")
    return float(seconds)
