"""What `when_spent` does to a request that does not fit into the budget."""

import msgspec
import pytest

from config.model.tenancy import Budget
from policies.admission.budget import spent_action
from policies.model.features import Features

ASKED = Features(model="m", tenant="acme", tier="gold", prompt_tokens=10, max_tokens=5, budget_used=1.0)


@pytest.mark.parametrize(
    ("budget", "tier", "spent"),
    [
        (Budget(amount=1.0, when_spent="downgrade", downgrade_to="slow"), "slow", False),
        (Budget(amount=1.0, when_spent="downgrade", downgrade_to="gold"), "gold", False),
        (Budget(amount=1.0, when_spent="downgrade"), "gold", False),
        (Budget(amount=1.0, when_spent="small_only"), "gold", True),
        (Budget(amount=1.0, when_spent="small_only", downgrade_to="slow"), "gold", True),
    ],
)
def test_it_is_changed_to_something_cheaper(budget: Budget, tier: str, *, spent: bool) -> None:
    left = spent_action(ASKED, budget)
    assert left is not None
    assert (left.tier, left.budget_spent) == (tier, spent)
    assert (left.model, left.tenant, left.prompt_tokens, left.max_tokens) == ("m", "acme", 10, 5)


@pytest.mark.parametrize(("before", "told"), [("", "gold"), ("platinum", "platinum")])
def test_a_downgrade_names_the_first_tier(before: str, told: str) -> None:
    asked = msgspec.structs.replace(ASKED, downgraded_from=before)
    left = spent_action(asked, Budget(amount=1.0, when_spent="downgrade", downgrade_to="slow"))
    assert left is not None
    assert left.downgraded_from == told


def test_it_is_refused() -> None:
    assert spent_action(ASKED, Budget(amount=1.0, when_spent="refuse", downgrade_to="slow")) is None
