"""What is stored of files and batches."""

from typing import Literal

import msgspec

FilePurpose = Literal["batch", "batch_output"]
BatchState = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
ENDED: frozenset[BatchState] = frozenset({"failed", "completed", "expired", "cancelled"})


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a tenant."""

    id: str
    name: str
    purpose: FilePurpose
    size: int
    """Bytes."""
    created: float
    """Seconds since 1970, as all times here."""
    expires: float


class LineFault(msgspec.Struct, frozen=True):
    """Why a file of requests cannot be a batch."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None
    """Counted from 1."""


class BatchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A batch."""

    id: str
    tenant: str
    key: str
    """Id of the key that it was made with, and ..."""
    models: tuple[str, ...] = ()
    """... the models that this permitted; empty: all."""
    endpoint: str
    """The address of its requests."""
    input_file: str
    metadata: dict[str, str] | None = None
    output_keep_s: float | None = None
    """How long its results are kept; None: as the settings say."""
    state: BatchState = "validating"
    created: float
    expires: float
    """The end of its window."""
    in_progress_at: float | None = None
    finalizing_at: float | None = None
    completed_at: float | None = None
    failed_at: float | None = None
    expired_at: float | None = None
    cancelling_at: float | None = None
    cancelled_at: float | None = None
    faults: tuple[LineFault, ...] = ()
    output_file: str = ""
    error_file: str = ""
    total: int = 0
    """Requests."""
    completed: int = 0
    failed: int = 0


class CheckedLine(msgspec.Struct, frozen=True):
    """A request of a file: where it stands there."""

    number: int
    """Of the line, from 1."""
    custom_id: str
    start: int
    """First byte."""
    size: int


class WaitingLine(msgspec.Struct, frozen=True):
    """A request without a result."""

    number: int
    custom_id: str
    raw: bytes


class LineResult(msgspec.Struct, frozen=True):
    """The result of a request: a line of the output file (`ok`) or of the error file, with its end."""

    number: int
    ok: bool
    line: bytes
