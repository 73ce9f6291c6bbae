"""Between an end and the next begin there is a pause, which grows."""

from itertools import pairwise

import pytest
import trio

from actors.kernel.errors import RestartsExhausted
from actors.kernel.supervisor import Child, Supervisor


class Fails:
    """Once it has run for so long."""

    redelivered = ()

    def __init__(self, begun: list[float], after_s: float = 0.0) -> None:
        begun.append(trio.current_time())
        self.after_s = after_s

    async def run(self) -> None:
        await trio.sleep(self.after_s)
        raise ValueError("broken")


@pytest.mark.parametrize(
    ("chance", "pauses"), [(0.0, [0.1, 0.2, 0.4, 0.8]), (1.0, [0.05, 0.1, 0.2, 0.4]), (0.5, [0.075, 0.15, 0.3, 0.6])]
)
async def test_the_pause_before_a_restart_grows(autojump_clock, chance, pauses):
    begun: list[float] = []
    children = [Child("broken", lambda: Fails(begun))]
    with pytest.raises(RestartsExhausted, match="broken ended after 4 restarts"):
        await Supervisor(children, intensity=4, chance=lambda: chance).run()
    assert [after - before for before, after in pairwise(begun)] == pytest.approx(pauses)


async def test_a_child_that_ran_for_a_period_is_forgiven(autojump_clock):
    begun: list[float] = []
    children = [Child("broken", lambda: Fails(begun, after_s=61.0))]
    with trio.move_on_after(400):
        await Supervisor(children, intensity=1, period_s=60.0, chance=lambda: 0.0).run()
    assert [after - before for before, after in pairwise(begun)] == pytest.approx([61.1] * 6)


async def test_a_pause_does_not_outlive_its_supervisor(autojump_clock):
    begun: list[float] = []
    children = [Child("broken", lambda: Fails(begun))]
    with trio.move_on_after(0.05) as scope:
        await Supervisor(children, chance=lambda: 0.0).run()
    assert scope.cancelled_caught
    assert len(begun) == 1
