"""The clients that are development dependencies run here; of the others, that docs/clients.md speaks of each."""

import re

import pytest

from tests.clients.client import SCRIPTS, Client, Outcome
from tests.clients.clients import CLIENTS
from tests.clients.document import PAGE, label, page_with, rows_of, table_of
from tests.clients.served import Served
from tests.paths import ROOT


@pytest.mark.parametrize("client", [each for each in CLIENTS if each.in_ci], ids=lambda client: client.name)
def test_each_feature_is_what_the_page_says(client: Client, gateway: Served) -> None:
    rows = rows_of(client, client.run(gateway.environment, own=False))
    assert rows == [row for row in table_of(PAGE.read_text()) if row.startswith(label(client))]
    assert not [row for row in rows if "**fault**" in row]


def test_the_page_has_each_client_in_its_version() -> None:
    rows = table_of(PAGE.read_text())
    for client in CLIENTS:
        assert any(row.startswith(label(client)) for row in rows), f"make clients CLIENTS='--only {client.name}'"
    assert all(row.startswith(tuple(map(label, CLIENTS))) for row in rows)


def test_every_script_has_a_row_and_every_version_a_pin() -> None:
    scripts = {path.name for path in SCRIPTS.glob("*.*") if path.stem not in {"__init__", "features"}}
    assert scripts == {client.script for client in CLIENTS}
    locked = (ROOT / "requirements-dev.lock").read_text().splitlines()
    for client in CLIENTS:
        assert all(re.search(r"(==|.@)\d", package) for package in client.packages)
        if client.in_ci:
            assert set(client.packages) <= set(locked)


def test_a_run_of_some_clients_leaves_the_rows_of_the_others() -> None:
    one, two = [Client(name, (f"{name}==1.2",), f"{name}.py") for name in ("one", "two")]
    page = "Before.\n\n<!-- written by `make clients`: begin -->\n<!-- end -->\n\nAfter.\n"
    page = page_with(page, (one, two), {one: [Outcome("chat")], two: [Outcome("chat", refused="no images")]})
    page = page_with(page, (one, two), {one: [Outcome("chat", fault="E:\nlost")]})
    assert table_of(page) == ["| one 1.2 | chat | **fault**: E: lost |", "| two 1.2 | chat | does not: no images |"]
    assert page.startswith("Before.\n\n<!--")
    assert page.endswith("<!-- end -->\n\nAfter.\n")
    assert table_of(page_with(page, (two,), {})) == ["| two 1.2 | chat | does not: no images |"]


def test_a_script_that_dies_is_a_fault(gateway: Served) -> None:
    client = Client("none", ("none==1",), "no_such_script.py")
    [outcome] = client.run(gateway.environment, own=False)
    assert outcome.fault
