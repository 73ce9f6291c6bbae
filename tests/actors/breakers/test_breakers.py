"""Retries are paid out of the budget that all share; without it the next rung is asked."""

import pytest
import trio

from tests.actors.fakes import Answer
from tests.actors.upstream.network import Asked
from tests.actors.upstream.test_upstream_actor import CHAT, FINE, config, outcomes, stage

FIVE_RETRIES = config().replace(
    '[[ladders.cloud-first]]\nto = "cloud"\nttft = "5s"',
    '[[ladders.cloud-first]]\nto = "cloud"\nretries = 5\nbreaker = { at_least = 1000 }',
)


async def always_fails(asked: Asked) -> None:
    await asked.status(500)


def tries(answer: Answer) -> int:
    """Of the upstream; then the budget was empty and the small model answered."""
    *failed, refused, answered = outcomes(answer)
    assert set(failed) == {("cloud", "failed", "upstream_error")}
    assert (refused, answered) == (("cloud", "refused", "retry_budget"), ("small", "answered", "retry_budget"))
    return len(failed)


# Each first attempt, on the upstream and on the small model, pays `ratio`.
@pytest.mark.parametrize(("ratio", "expected"), [(0.0, [1, 1, 1]), (0.5, [1, 2, 2]), (1.0, [2, 3, 3])])
async def test_requests_pay_for_retries(autojump_clock, ratio, expected):
    text = f"{FIVE_RETRIES}\n[retry_budget]\nratio = {ratio}\nmin_per_second = 0.0\n"
    async with stage(always_fails, FINE, text=text) as (service, network):
        counted = [tries(await service.ask("cloud", prompts=CHAT)) for _ in expected]
        assert counted == expected
        assert len(network.asked) == sum(expected)


async def test_time_pays_for_retries(autojump_clock):
    text = f"{FIVE_RETRIES}\n[retry_budget]\nratio = 0.0\nmin_per_second = 0.1\n"
    async with stage(always_fails, FINE, text=text) as (service, _):
        counted = []
        for pause_s in (0, 11, 1, 11):
            await trio.sleep(pause_s)
            counted.append(tries(await service.ask("cloud", prompts=CHAT)))
        assert counted == [1, 2, 1, 2]
