"""A ledger file has one process that writes it."""

import pytest

from actors.kernel.errors import ServiceFailed
from actors.ledger.lock import ledger_lock


def test_a_second_process_is_refused_until_the_first_one_ends(tmp_path):
    path = tmp_path / "usage.sqlite3"
    second = ledger_lock(path)
    with ledger_lock(path), pytest.raises(ServiceFailed, match=r"usage\.sqlite3 is kept by another process"):
        second.__enter__()
    with ledger_lock(path):
        pass


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(ServiceFailed, match=r"No such file or directory: .*absent"), ledger_lock(tmp_path / "absent/x"):
        pass


def test_in_memory_nothing_is_locked():
    with ledger_lock(":memory:"), ledger_lock(":memory:"):
        pass
