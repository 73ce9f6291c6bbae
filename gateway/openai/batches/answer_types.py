"""Files and batches as types, for the API's description; `file_object.py` and `batch_object.py` write them."""

from typing import Annotated, Literal

from msgspec import UNSET, Struct, UnsetType, field

from actors.batches.records import BatchState, FilePurpose
from gateway.openai.batches.file_object import Anchor, KeptSeconds
from gateway.openai.batches.upload import PURPOSE
from gateway.openai.requests.neutral import field_schema


class UploadForm(Struct, kw_only=True, forbid_unknown_fields=True):
    """The fields of an upload, which `upload.py` reads."""

    file: Annotated[str, field_schema(format="binary")]
    """With a filename. Each line is a request: an object with `custom_id`, `method`, `url` and `body`."""
    purpose: Annotated[str, field_schema(enum=[PURPOSE])]
    anchor: Anchor | UnsetType = field(default=UNSET, name="expires_after[anchor]")
    seconds: KeptSeconds | UnsetType = field(default=UNSET, name="expires_after[seconds]")


class FileEntry(Struct, kw_only=True):
    """A file."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    """Seconds since 1970, as all times here."""
    expires_at: int
    filename: str
    purpose: FilePurpose
    status: Literal["processed"]
    status_details: None


class FileEntries(Struct, kw_only=True):
    """A page of files."""

    object: Literal["list"]
    data: list[FileEntry]
    has_more: bool
    first_id: str | None
    last_id: str | None


class DeletedFile(Struct):
    """It is gone."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]


class BatchFault(Struct, kw_only=True):
    """Why a file of requests cannot be a batch."""

    code: str
    line: int | None
    """Counted from 1."""
    message: str
    param: str | None


class BatchFaults(Struct):
    """The faults of a file."""

    object: Literal["list"]
    data: list[BatchFault]


class RequestCounts(Struct):
    """Of a batch: how many requests it has, and how many have ended."""

    total: int
    completed: int
    failed: int


class BatchEntry(Struct, kw_only=True):
    """A batch."""

    id: str
    object: Literal["batch"]
    endpoint: str
    errors: BatchFaults | None
    input_file_id: str
    completion_window: str
    status: BatchState
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    metadata: dict[str, str] | None


class BatchEntries(Struct, kw_only=True):
    """A page of batches."""

    object: Literal["list"]
    data: list[BatchEntry]
    has_more: bool
    first_id: str | None
    last_id: str | None
