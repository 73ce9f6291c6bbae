"""What a client reads of a cascade that it asks about: every output of the small model as it was judged."""

import math

import msgspec
import pytest

from actors.api.response import CascadeTrace, Served
from actors.request.attempt import OutputAssembly
from actors.request.cascade_tracer import CascadeTracer
from engine.messages import TokenDelta
from engine.testing.fake_runner import Script
from policies.cascade.cascade import CascadeMachine
from tests.actors.fakes import CONFIG, Stage, says, stage
from tests.actors.request.test_response_stream import OTHER, TEXT
from tests.policies.cascade.test_cascade import cascade

SURE = 2.5


async def trace_of(service: Stage, model: str, **options: object) -> tuple[Served, CascadeTrace]:
    answer = await service.ask(model, explain=True, **options)
    assert isinstance(answer.end.served.cascade, CascadeTrace)
    return answer.end.served, answer.end.served.cascade


def both(small: Script, large: Script) -> dict[str, Script]:
    return {"small": small, "large": large}


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("model", ["both", "whole"])
async def test_an_accepted_answer_is_all_there(autojump_clock, model, streamed):
    async with stage(both(says(TEXT, {3: SURE}), says(OTHER))) as service:
        served, trace = await trace_of(service, model, streamed=streamed)
        assert (trace.small, trace.large, trace.index) == ("small", "large", 0)
        assert trace.mode == {"both": "window", "whole": "gate"}[model]
        assert "".join(step.text for step in trace.steps) == TEXT
        assert trace.shown == len(trace.steps)
        assert trace.steps[3].margins == (SURE,)
        assert trace.steps[-1].statistic == served.margin == SURE


async def test_an_escalated_answer_ends_at_the_token_that_was_unsure(autojump_clock):
    async with stage(both(says(OTHER, {6: 0.4}), says(TEXT))) as service:
        served, trace = await trace_of(service, "whole")
        assert served.rung == "large"
        assert (len(trace.steps), trace.shown) == (7, 0)
        assert trace.steps[-1].margins == (pytest.approx(0.4),)
        assert trace.steps[-1].statistic == served.margin < trace.threshold <= trace.steps[-2].statistic


async def test_what_was_shown_is_the_beginning_of_the_answer(autojump_clock):
    async with stage(both(says(TEXT, {7: 0.4}), says(TEXT))) as service:
        answer = await service.ask("both", explain=True)
        trace = answer.end.served.cascade
        assert 0 < trace.shown < len(trace.steps)
        begin = "".join(step.text for step in trace.steps[: trace.shown])
        assert begin
        assert answer.text().startswith(begin)


async def test_the_least_sure_choice_is_explained(autojump_clock):
    async with stage(both(says(TEXT), says(OTHER))) as service:
        _, trace = await trace_of(service, "whole", n=3)
        assert "".join(step.text for step in trace.steps) == TEXT


async def test_without_a_cascade_there_is_none(autojump_clock):
    async with stage(both(says(TEXT), says(OTHER))) as service:
        served = (await service.ask("small", explain=True)).end.served
        assert served.cascade is None
        assert served.cost is None


async def test_with_prices_the_cost_is_what_was_charged(autojump_clock):
    prices = "[prices]\nsmall = { input = 1_000_000.0, output = 2_000_000.0 }\n"
    async with stage(both(says(TEXT), says(OTHER)), settings=CONFIG + prices) as service:
        answer = await service.ask("small", explain=True)
        served, usage = answer.end.served, answer.end.usage
        assert served.cost == usage.prompt_tokens + 2 * usage.completion_tokens
        await service.assert_clean()
        assert served.cost == pytest.approx(service.row("r1")["cost"])


async def test_who_does_not_ask_reads_what_was_always_there(autojump_clock):
    async with stage(both(says(TEXT), says(OTHER))) as service:
        served = (await service.ask("both")).end.served
        assert msgspec.UNSET is served.cascade is served.cost
        assert not {"cascade", "cost"} & msgspec.to_builtins(served).keys()


def test_it_survives_the_file_of_kept_answers():
    """An infinite statistic, too, which JSON does not have."""
    trace = CascadeTrace(
        name="c",
        small="a",
        large="b",
        mode="gate",
        statistic="min_margin",
        threshold=math.inf,
        index=0,
        shown=0,
        steps=(),
    )
    served = Served("r", "b", "low_margin", (), cost=None, cascade=trace)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(served), type=Served) == served
    assert msgspec.json.decode(msgspec.json.encode(served))["cascade"]["threshold"] is None


def test_what_comes_after_the_decision_is_no_part_of_it():
    """An engine may have made another token before it was told to stop."""
    planned = cascade("gate")
    assembly = OutputAssembly({7: 0}, machine := CascadeMachine(planned, 1), tracer=CascadeTracer(planned, "gate", 1))
    for number, margin in enumerate((3.0, 0.5, 9.0)):
        verdict = assembly.feed(TokenDelta(7, (number,), "x", (margin,)), [])
        assert verdict == ("escalate" if number == 1 else "going")
    assert machine.decided
    assert [step.margins for step in assembly.trace.steps] == [(3.0,), (0.5,)]
