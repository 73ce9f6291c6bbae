"""What an answer's end teaches: experiments, notices, and a recording."""

from functools import partial
from pathlib import Path
from unittest.mock import ANY

import pytest
from trio.testing import wait_all_tasks_blocked

from actors.request.account import EmittedChoice
from policies.records.trace import read_trace
from tests.actors.books import ways_out as out
from tests.actors.books.ways_out import asks
from tests.actors.books.world import TEXT, config, world
from tests.actors.fakes import CONFIG, says, stage

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
        (partial(out.failing, engine="large", step=0, model="large"), (0, ANY, 1, 0, 0), {}),
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


class Words:
    """A tokenizer with a token for each letter, and one before all texts."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return [1] * add_special_tokens + [ord(letter) for letter in text]

    def decode(self, ids: list[int]) -> str:
        return "".join([chr(each) for each in ids if each > 1]).replace("ü", "?")


@pytest.mark.parametrize(
    ("named", "unnamed", "texts", "ids", "tokens"),
    [
        ([7, 8], 0, ["ab"], (7, 8), 2),
        ([], 3, ["ab", "c"], (97, 98, 99), 3),
        # An upstream counted other tokens than this tokenizer makes of the same text.
        ([], 1, ["abc"], (97, 98, 99), 3),
        ([97], 4, ["a", "bc"], (97, 98, 99), 3),
        # Its tokens do not give the same text again.
        ([], 2, ["aü"], (), 2),
    ],
)
def test_the_ids_of_what_was_emitted(named, unnamed, texts, ids, tokens):
    choice = EmittedChoice()
    choice.token_ids, choice.unnamed, choice.texts = list(named), unnamed, list(texts)
    assert choice.ids(Words()) == ids
    assert choice.tokens == tokens
    assert choice.ids(None) == (ids if choice.unnamed == 0 else ())


@pytest.mark.parametrize(
    ("limits", "current"),
    [
        # What remains of these is published: an idle server shows it at once.
        ("tokens = { per_minute = 1000 }", True),
        ("budget = { amount = 9.0 }", True),
        ("tokens = { per_minute = 1000 }\nbudget = { amount = 9.0 }", True),
        # The actor of admission is not woken for a complete answer.
        ("requests_per_minute = 10", False),
        ("", False),
    ],
)
async def test_what_remains_is_current_on_an_idle_server(autojump_clock, limits, current):
    async with stage(
        {}, settings=f"{CONFIG}\n[prices]\nsmall = {{ input = 1.0, output = 1.0 }}\n[tenants.anonymous]\n{limits}\n"
    ) as service:
        await service.ask(max_tokens=3)
        await wait_all_tasks_blocked()
        assert (service.quota_use().in_flight == 0) is current
        await service.settled()
        assert service.quota_use().in_flight == 0


async def test_only_an_overrun_counts_as_one(autojump_clock):
    async with world({}) as here:
        await here.ask("small", max_tokens=3)
        await out.left_in_queue(here)
        assert here.service.service.statistics().overrun_total == 0
