"""Made-up requests reach what a policy can decide."""

from config.model.expectations import GivenRequest
from policies.authoring.boundaries import Boundaries
from policies.authoring.decision import Decider
from policies.authoring.situation import situation_of
from policies.authoring.synthetic import synthetic_requests
from tests.policies.authoring.test_explanation import SAME, SETTINGS


def test_made_up_requests_reach_every_route_and_both_sides_of_its_bounds() -> None:
    decider = Decider(SETTINGS, SAME)
    situations = [situation_of(each, SETTINGS) for each in synthetic_requests([SETTINGS], 1000, 3)]
    routes = {getattr(decider.decide(each), "route", "") for each in situations}
    assert routes == {route.name for route in SETTINGS.routes}
    for field, bounds in Boundaries.of(SETTINGS).numbers.items():
        values = [getattr(each.features, field) for each in situations]
        for bound in bounds:
            assert any(bound - 1 <= value < bound for value in values), field
            assert any(bound <= value <= bound + 1 for value in values), field
    whys = {cascade.why for each in situations if (cascade := getattr(decider.decide(each), "cascade", None))}
    assert whys >= {"default", "asked_large", "busy", "budget", "small_unavailable"}


def test_the_same_seed_makes_the_same_requests() -> None:
    def made(seed: int) -> list[GivenRequest]:
        return list(synthetic_requests([SETTINGS], 20, seed))

    assert made(1) == made(1) != made(2)
