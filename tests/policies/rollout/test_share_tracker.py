"""Whether a cascade keeps the share that its target promised."""

import math
import random

from policies.rollout.share_tracker import ShareTracker


def test_a_share_that_keeps_its_target_is_quiet_and_another_is_not() -> None:
    rng = random.Random(5)
    quiet, loud = ShareTracker(0.25), ShareTracker(0.25)
    changes = [quiet.add(rng.random() < 0.25) for _ in range(3000)]
    assert sum(changes) <= 2
    assert not quiet.view.drifted
    assert any(loud.add(rng.random() < 0.4) for _ in range(3000))
    assert loud.view.drifted
    assert math.isclose(loud.view.realised, 0.4, abs_tol=0.08)
