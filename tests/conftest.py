import os
import shutil

import pytest

from tests.sampling import mark_slow

if shutil.which("nvidia-smi") is None:
    # Before anything imports Triton: its own library is compiled or interpreted from its first import on.
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.hookimpl(tryfirst=True)  # before slow ones are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_slow(items)
