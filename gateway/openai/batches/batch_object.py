"""The body of a request for a batch, and the `batch` object."""

from typing import Annotated, Any

import msgspec

from actors.batches.records import BatchRecord
from config.model.tenancy import KeyEndpoint
from gateway.errors import BadField
from gateway.openai.batches.file_object import Anchor, KeptSeconds, kept_for
from gateway.openai.requests.json_body import BodyDecoder
from gateway.openai.requests.neutral import field_schema

ENDPOINTS: dict[str, KeyEndpoint] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
    "/v1/responses": "responses",
}
"""Those that batches can be made for, and what a key must permit."""
WINDOW_S = 24 * 3600.0
_WINDOW = "24h"
_MOST_METADATA, _KEY_CHARACTERS, _VALUE_CHARACTERS = 16, 64, 512
_Metadata = Annotated[
    dict[str, Annotated[str, field_schema(maxLength=_VALUE_CHARACTERS)]] | None,
    field_schema(maxProperties=_MOST_METADATA, propertyNames={"maxLength": _KEY_CHARACTERS}),
]


class OutputExpiry(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """When the results are deleted."""

    anchor: Anchor
    seconds: KeptSeconds


class BatchBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of `POST /v1/batches`; `null` counts as absent."""

    input_file_id: str
    endpoint: Annotated[str, field_schema(enum=list(ENDPOINTS))]
    completion_window: Annotated[str, field_schema(enum=[_WINDOW])]
    metadata: _Metadata = None
    output_expires_after: OutputExpiry | None = None

    @property
    def output_keep_s(self) -> float | None:
        """Raises BadField."""
        given = self.output_expires_after
        return None if given is None else kept_for(given.anchor, given.seconds, "output_expires_after")


_DECODER = BodyDecoder(BatchBody)


def read_batch(raw: bytes | bytearray) -> BatchBody:
    """Raises HttpError."""
    body: BatchBody = _DECODER.decode(raw)[0]
    if body.endpoint not in ENDPOINTS:
        raise BadField(
            "endpoint", f"Batches for '{body.endpoint[:80]}' are not served; they are for {', '.join(ENDPOINTS)}."
        )
    if body.completion_window != _WINDOW:
        raise BadField("completion_window", f"'completion_window' must be '{_WINDOW}'.")
    metadata = body.metadata or {}
    if len(metadata) > _MOST_METADATA:
        raise BadField("metadata", f"'metadata' may have {_MOST_METADATA} keys, not {len(metadata)}.")
    for key, value in metadata.items():
        if len(key) > _KEY_CHARACTERS or len(value) > _VALUE_CHARACTERS:
            raise BadField(
                "metadata",
                f"'metadata': keys have up to {_KEY_CHARACTERS} characters, values up to {_VALUE_CHARACTERS}.",
            )
    return body


def batch_object(record: BatchRecord) -> dict[str, Any]:
    """As the API writes it."""
    faults = [
        {"code": fault.code, "line": fault.line, "message": fault.message, "param": fault.param}
        for fault in record.faults
    ]
    return {
        "id": record.id,
        "object": "batch",
        "endpoint": record.endpoint,
        "errors": {"object": "list", "data": faults} if faults else None,
        "input_file_id": record.input_file,
        "completion_window": _WINDOW,
        "status": record.state,
        "output_file_id": record.output_file or None,
        "error_file_id": record.error_file or None,
        "created_at": int(record.created),
        "in_progress_at": _whole(record.in_progress_at),
        "expires_at": int(record.expires),
        "finalizing_at": _whole(record.finalizing_at),
        "completed_at": _whole(record.completed_at),
        "failed_at": _whole(record.failed_at),
        "expired_at": _whole(record.expired_at),
        "cancelling_at": _whole(record.cancelling_at),
        "cancelled_at": _whole(record.cancelled_at),
        "request_counts": {"total": record.total, "completed": record.completed, "failed": record.failed},
        "metadata": record.metadata,
    }


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)
