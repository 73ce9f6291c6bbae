"""Settings of batches and of the files for them."""

from pathlib import Path
from typing import Annotated

from config.model.bounds import Count, within
from config.model.table import Bytes, PositiveBytes, PositiveSeconds, Seconds, Table


class BatchSettings(Table, frozen=True):
    """Batches (`/v1/batches`) and the files for them (`/v1/files`)."""

    price: Annotated[float, within(0, 1)] = 0.5
    """Requests of batches cost this share of [prices]."""
    file: Path | None = None
    """An SQLite file, relative to the working directory, for files, batches and their results, which then survive a
    restart. None: they are in memory only."""
    storage: PositiveBytes = Bytes(1024 * 2**20)
    """Bytes of all files, results included. While they are reached, uploads are refused (507 `file_storage_full`)."""
    storage_per_tenant: PositiveBytes = Bytes(256 * 2**20)
    """The same for one tenant (429 `file_storage_full`). Results that do not fit any more are replaced by an error."""
    keep: PositiveSeconds = Seconds(30 * 86_400)
    """How long a file is kept, and a batch after its end; a client may choose a shorter time (`expires_after`)."""
    max_file: PositiveBytes = Bytes(100 * 2**20)
    """Size of one file that is uploaded; above it 413."""
    max_lines: Count = 50_000
    """Requests of one batch."""
    max_line: PositiveBytes = Bytes(4 * 2**20)
    """Bytes of one line of a file of requests."""
    unfinished: Count = 100
    """How many batches of one tenant may be unfinished at once; above it 429."""
    in_flight: Count = 512
    """How many requests of batches are in flight at once, at most. As many are as the models have places for."""
