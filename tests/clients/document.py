"""docs/clients.md: the part that `make clients` writes."""

from collections.abc import Sequence

from tests.clients.client import Client, Outcome
from tests.paths import DOCS

PAGE = DOCS / "clients.md"
BEGIN, END = "<!-- written by `make clients`: begin -->", "<!-- end -->"
HEAD = "| client | feature | |\n| --- | --- | --- |\n"


def table_of(page: str) -> list[str]:
    """The rows of the generated part."""
    part = page.partition(BEGIN)[2].partition(END)[0]
    return [line for line in part.strip().splitlines()[2:] if line]


def rows_of(client: Client, outcomes: Sequence[Outcome]) -> list[str]:
    return [f"{label(client)} {each.feature} | {verdict(each)} |" for each in outcomes]


def label(client: Client) -> str:
    """How each row of the client begins."""
    return f"| {client.name} {client.version} |"


def verdict(outcome: Outcome) -> str:
    if outcome.fault:
        return f"**fault**: {' '.join(outcome.fault.split())[:200]}"
    return f"does not: {outcome.refused}" if outcome.refused else "works"


def page_with(page: str, table: Sequence[Client], ran: dict[Client, list[Outcome]]) -> str:
    """The page with the rows of what ran. Those of other clients of the table stay."""
    old = table_of(page)
    rows = []
    for client in table:
        kept = [row for row in old if row.startswith(label(client))]
        rows += rows_of(client, ran[client]) if client in ran else kept
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{HEAD}" + "".join(f"{row}\n" for row in rows) + f"\n{END}{rest.partition(END)[2]}"
