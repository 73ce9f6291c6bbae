"""What an answer's end teaches: experiments, notices, and a recording."""

from functools import partial
from pathlib import Path
from unittest.mock import ANY

import pytest

from policies.records.trace import read_trace
from tests.actors.books import ways_out as out
from tests.actors.books.ways_out import asks
from tests.actors.books.world import TEXT, config, world
from tests.actors.fakes import says

METRICS = ("error_rate", "ttft_miss", "fallback_rate", "escalation_rate", "truncation_rate")
EXPERIMENT = (
    config()
    + f"""
[[experiments]]
name = "try"
route = ["small", "large", "both", "gate", "encoder"]
unit = "request"
arms = {{ control = 50, b = 50 }}
override.b = {{ "routes.small.midstream" = "continue" }}
guard = {{ metrics = {list(METRICS)}, alpha = 0.05, min_requests = 1000 }}
"""
)
UNSURE = {"small": says(TEXT, {3: 0.1})}


async def slowly(world):
    world.service.worker("small").step_s = 3.0
    said = await world.told()
    world.service.worker("small").step_s = 0.1
    return said


@pytest.mark.parametrize(
    ("go", "bad", "scripts"),
    [
        # How each metric counts it; None: it says nothing of that. What had no content may count as a miss or not.
        (asks(), (0, 0, 0, 0, 0), {}),
        (asks(max_tokens=3), (0, 0, 0, 0, 1), {}),
        (asks(max_tokens=3, n=2), (0, 0, 0, 0, 1), {}),
        (slowly, (0, 1, 0, 0, 0), {}),
        (partial(out.failing, engine="small", step=0), (0, 0, 1, 0, 0), {}),
        (partial(out.failing, engine="small", step=3), (1, 0, 0, 0, 0), {}),
        (partial(out.failing, engine="large", step=0, model="large"), (1, ANY, 0, 0, 0), {}),
        (out.queue_full, (1, ANY, 0, 0, 0), {}),
        (asks("whole"), (0, 0, 0, 0, 0), {}),
        (asks("whole"), (0, 0, 0, 1, 0), UNSURE),
        (asks("both"), (0, 0, 0, 1, 0), UNSURE),
        (out.left_in_queue, (None,) * 5, {}),
        (partial(out.left_after, seconds=0.45), (None,) * 5, {}),
    ],
)
async def test_what_an_experiment_hears(autojump_clock, go, bad, scripts):
    async with world(scripts, settings=EXPERIMENT) as here:
        await go(here)
        await here.service.assert_clean()
        (arms,) = [each.arms for each in here.service.service.statistics().experiments.values()]
        counts = {name: [0, 0] for name in METRICS}
        others = len(here.service.rows()) - 1
        for arm in arms.values():
            for name, (worse, answers) in arm.metrics.items():
                counts[name][0] += worse
                counts[name][1] += answers
        told = tuple(counts[name][0] if counts[name][1] else None for name in METRICS)
        assert told == bad
        assert sum(arm.requests for arm in arms.values()) == 1 + others


async def test_a_notice_is_counted(autojump_clock):
    text = EXPERIMENT.replace(", min_requests = 1000", ", min_requests = 5").replace(
        'override.b = { "routes.small.midstream" = "continue" }',
        'override.b = { "routes.small.use" = { ladder = "large-only" } }',
    )
    async with world({}, settings=text) as here:
        for _ in range(200):
            here.service.worker("large").step_s = 3.0
            await here.ask("small", max_tokens=1)
            if here.service.service.statistics().experiments["try"].rolled_back:
                break
        assert here.service.service.statistics().notices_total == {("experiment_rolled_back", "try"): 1}
        here.service.worker("large").step_s = 0.1


@pytest.mark.parametrize(
    ("go", "expected"),
    [
        (asks(), ("small", 6, True)),
        (asks(n=3, streamed=False), ("small", 6, False)),
        (asks("whole"), ("large", 6, True)),
        (partial(out.left_after, seconds=0.45), ("", 4, True)),
        (partial(out.failing, engine="small", step=3), ("", 3, True)),
        # A trace has no requests without any output.
        (out.left_in_prefill, ("", 1, False)),
    ],
)
async def test_what_is_recorded(autojump_clock, tmp_path: Path, go, expected):
    rung, tokens, has_ttft = expected
    scripts = UNSURE if rung == "large" else {}
    async with world(scripts, record=tmp_path / "recording.jsonl") as here:
        await go(here)
    (line,) = read_trace(tmp_path / "recording.jsonl")
    assert (line.rung, line.output_tokens, line.ttft_s is not None) == (rung, tokens, has_ttft)
    assert (line.prompt_tokens, len(line.margins)) == (4, 4 if rung == "large" else 0)
