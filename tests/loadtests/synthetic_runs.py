"""Run records made of numbers, by the same tally that real runs use."""

from array import array
from collections.abc import Iterable

import msgspec

from loadtests.client.answer import Answer, AnswerUsage
from loadtests.model.run_record import RunHeader, RunMachine, RunRecord
from loadtests.model.scenario import Arrivals, RequestKind, Scenario
from loadtests.model.timing import duration_of, warm_up_of, warm_up_rule
from loadtests.running.finished_request import FinishedRequest
from loadtests.running.tally import Tally, merge_tallies
from loadtests.running.verdict import fairness, grouped, judge, totals_of

SCENARIO = Scenario(schema=1, arrivals=Arrivals(rate=5.0))


class SyntheticRequest(msgspec.Struct, kw_only=True):
    """A request as it went. `late_s`: how late it was sent."""

    at: float
    ttft: float = 0.1
    gaps: tuple[float, ...] = (0.02,) * 9
    late_s: float = 0.0
    failure: str = ""
    code: str = ""
    detail: str = ""
    status: int = 200
    tenant: str = ""
    name: str = ""
    timings: dict[str, float] = {}


def synthetic_record(
    requests: Iterable[SyntheticRequest], scenario: Scenario = SCENARIO, lag_s: float = 0.0
) -> RunRecord:
    tally = Tally(scenario, window_s=1.0, rows=scenario.rows, seed="1")
    for number, each in enumerate(requests):
        answer = Answer()
        answer.status, answer.code, answer.timings = each.status, each.code, each.timings
        at = 1000.0 + each.at + each.ttft
        if not each.failure:
            times = [at := at + gap for gap in (0.0, *each.gaps)]
            answer.first_s, answer.times = times[0], array("d", times)
            answer.usage = AnswerUsage(prompt_tokens=30, completion_tokens=len(times), total_tokens=30 + len(times))
            answer.done = True
            answer.finished.add(0)
        else:
            answer.fail(each.failure, each.detail)
        answer.end_s = at
        kind = RequestKind(name=each.name, tenant=each.tenant)
        sent_s = each.at + each.late_s
        finished = FinishedRequest(
            number=number, kind=kind, answer=answer, intended_s=each.at, free_s=each.at, sent_s=sent_s, begun_s=1000.0
        )
        tally.sent(sent_s, each.late_s + lag_s)
        tally.ended(finished)
    whole = merge_tallies([tally.result()], scenario.rows, "1")
    groups, totals = grouped(whole.groups), totals_of(whole.groups)
    return RunRecord(
        header=RunHeader(
            penstock="0",
            started_at="2026-01-01T00:00:00+00:00",
            scenario=scenario,
            machine=RunMachine("here", "a CPU", 2, "Linux", "3.11"),
            warm_up_s=warm_up_of(scenario),
            warm_up_rule=warm_up_rule(scenario),
            measured_s=duration_of(scenario) - warm_up_of(scenario),
        ),
        verdict=judge(scenario.lag, whole.lag, totals.latencies, [], cut_short=False),
        totals=totals,
        groups=groups,
        windows=tuple([whole.windows[index] for index in sorted(whole.windows)]),
        failures=tuple(whole.failures),
        lag=whole.lag,
        fairness=fairness(groups.get("tenant", {})),
        rows=tuple(whole.rows),
        requests=whole.requests,
    )


def even_run(scenario: Scenario = SCENARIO, every_s: float = 0.2, **fields: object) -> RunRecord:
    """The same request again and again."""
    count = round(duration_of(scenario) / every_s)
    return synthetic_record([SyntheticRequest(at=number * every_s, **fields) for number in range(count)], scenario)
