"""What may change live, and what is said to need a restart."""

from pathlib import Path

import pytest

from config.load import parse_settings
from config.model.settings import Settings
from policies.lifecycle.reload import compare, restart_problems
from tests.actors.configuration import CONFIG


def read(text: str = CONFIG) -> Settings:
    return parse_settings(text, Path("/nowhere/service.toml"))


def test_the_same_is_no_change() -> None:
    assert not compare(read(), read("# only a comment\n" + CONFIG))


@pytest.mark.parametrize(
    ("old", "new", "live"),
    [
        ("retries = 1", "retries = 2", ("ladders.small-first",)),
        ("threshold = 1.0", "threshold = 2.0", ("cascades.window",)),
        ("requests = 8", "requests = 9", ("tiers.default",)),
        ("[models.both]", "[models.both]\n[models.new]", ("models.new",)),
        ('[[routes]]\nname = "large"', '[[routes]]\nname = "grand"', ("routes.grand", "routes.large")),
        ("[models.both]", "[models.both]\n[retry_budget]\nshare = 0.5", ("retry_budget.share",)),
        ("[models.both]", "[models.both]\n[batch]\nprice = 0.1", ("batch.price",)),
    ],
)
def test_the_policy_changes_live(old: str, new: str, live: tuple[str, ...]) -> None:
    change = compare(read(), read(CONFIG.replace(old, new, 1)))
    assert (tuple(sorted(change.live)), change.restart) == (live, ())


def test_the_order_of_routes_is_a_change() -> None:
    first = '[[routes]]\nname = "small"\nwhen = { model = ["small"] }\nuse = { ladder = "small-first" }\n'
    moved = CONFIG.replace(first, "").replace('[[routes]]\nname = "gate"', first + '[[routes]]\nname = "gate"')
    assert compare(read(), read(moved)).live == ("routes (their order)",)


def test_what_something_was_built_from_needs_a_restart() -> None:
    text = CONFIG.replace("max_running = 4", "max_running = 5", 1).replace(":memory:", "other.sqlite3")
    text = text.replace("[models.small]", "[server]\nport = 9\n[batch]\nin_flight = 9\n[models.small]").replace(
        "retries = 1", "retries = 3"
    )
    change = compare(read(), read(text))
    assert change.restart == ("server.port", "ledger.path", "batch.in_flight", "engines.small")
    assert change.live == ("ladders.small-first",)
    problems = restart_problems(change, Path("/nowhere/service.toml"))
    assert [problem.where for problem in problems] == list(change.restart)
    assert "restart" in str(problems[0])
