"""One gateway for the tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.clients.served import Served, served


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("clients")) as running:
        yield running
