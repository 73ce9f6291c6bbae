"""What the store of files and batches can be asked. None finds another tenant's."""

from typing import Literal

import msgspec

from actors.batches.records import BatchRecord, CheckedLine, LineResult


class BeginFile(msgspec.Struct, frozen=True, tag=True):
    """An upload begins. Gives None."""

    tenant: str
    file_id: str
    name: str


class AddPiece(msgspec.Struct, frozen=True, tag=True):
    """The next bytes of an upload. Gives "tenant" or "all" if its storage is full (nothing is added), else None."""

    tenant: str
    file_id: str
    data: bytes


class EndFile(msgspec.Struct, frozen=True, tag=True):
    """The upload is whole. Gives a FileRecord, or None if it is gone."""

    tenant: str
    file_id: str
    keep_s: float | None
    """None: as the settings say."""


class GetFile(msgspec.Struct, frozen=True, tag=True):
    """Gives a FileRecord or None."""

    tenant: str
    file_id: str


class ListFiles(msgspec.Struct, frozen=True, tag=True):
    """Gives a list of up to `limit` + 1 FileRecords after the one with the id `after`; None: there is no such file."""

    tenant: str
    after: str
    limit: int
    newest_first: bool
    purpose: str = ""


class ReadFile(msgspec.Struct, frozen=True, tag=True):
    """Gives (bytes, position of the next): a part of the file; b"" at its end; None: it is gone."""

    tenant: str
    file_id: str
    position: int = 0


class DropFile(msgspec.Struct, frozen=True, tag=True):
    """Gives "deleted", "unknown", or "in_use" for the file of an unfinished batch."""

    tenant: str
    file_id: str


class NewBatch(msgspec.Struct, frozen=True, tag=True):
    """Gives None, or why there is no new batch: "no_file", or "too_many" for a tenant with too many unfinished ones."""

    record: BatchRecord
    most_unfinished: int


class PutBatch(msgspec.Struct, frozen=True, tag=True):
    """Replace a record, but for its counts. Gives None."""

    record: BatchRecord


class GetBatch(msgspec.Struct, frozen=True, tag=True):
    """Gives a BatchRecord or None."""

    tenant: str
    batch_id: str


class ListBatches(msgspec.Struct, frozen=True, tag=True):
    """As `ListFiles`, the newest first, of BatchRecords."""

    tenant: str
    after: str
    limit: int


class UnfinishedBatches(msgspec.Struct, frozen=True, tag=True):
    """Gives all BatchRecords that have not ended, the oldest first."""


class AddLines(msgspec.Struct, frozen=True, tag=True):
    """Requests of a batch. Gives the numbers of those whose `custom_id` was there before: these are not added."""

    batch_id: str
    lines: tuple[CheckedLine, ...]


class ClearLines(msgspec.Struct, frozen=True, tag=True):
    """The batch begins again, or has failed: it has no requests. Gives None."""

    batch_id: str


class NextLines(msgspec.Struct, frozen=True, tag=True):
    """Gives a list of WaitingLine, the first after the line `after`, up to `limit`."""

    batch_id: str
    after: int
    limit: int


class PutResults(msgspec.Struct, frozen=True, tag=True):
    """Results; of a request that has one already they are dropped. Gives (completed, failed) of the batch.

    What does not fit into the tenant's storage any more is replaced by `instead`.
    """

    batch_id: str
    results: tuple[LineResult, ...]
    instead: tuple[LineResult, ...] = ()


class FinishBatch(msgspec.Struct, frozen=True, tag=True):
    """The batch has ended: its results become files, under these ids. Gives the BatchRecord as it is stored.

    A file without lines is not made.
    """

    record: BatchRecord
    output_file: str
    error_file: str


class SweepFiles(msgspec.Struct, frozen=True, tag=True):
    """Delete what is kept no longer. Gives the number of files and batches."""


class FileSums(msgspec.Struct, frozen=True, tag=True):
    """Gives (files, bytes) of all tenants together."""


Ended = Literal["deleted", "unknown", "in_use"]
BatchQuery = (
    BeginFile
    | AddPiece
    | EndFile
    | GetFile
    | ListFiles
    | ReadFile
    | DropFile
    | NewBatch
    | PutBatch
    | GetBatch
    | ListBatches
    | UnfinishedBatches
    | AddLines
    | ClearLines
    | NextLines
    | PutResults
    | FinishBatch
    | SweepFiles
    | FileSums
)
