"""Checks the settings of batches."""

from config.model.settings import Settings
from config.problems.problems import Problems


def check_batch(settings: Settings, problems: Problems) -> None:
    batch, server = settings.batch, settings.server
    others = {settings.ledger.path, server.kept_file, server.responses_file}
    if batch.file is not None and batch.file in others:
        problems.add(("batch", "file"), "this file has another use", expected="a file of its own")
    if batch.max_file > batch.storage_per_tenant:
        problems.add(
            ("batch", "max_file"),
            f"max_file ({batch.max_file} bytes) is more than storage_per_tenant ({batch.storage_per_tenant}): a file "
            "of that size is always refused",
            expected="at most storage_per_tenant",
        )
    if batch.storage_per_tenant > batch.storage:
        problems.add(
            ("batch", "storage_per_tenant"),
            f"storage_per_tenant ({batch.storage_per_tenant} bytes) is more than storage ({batch.storage})",
            expected="at most storage",
        )
