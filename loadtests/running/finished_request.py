"""One request that has ended, and what it counts for. Pure."""

import msgspec
import numpy as np

from loadtests.client import failures
from loadtests.client.answer import Answer
from loadtests.model.run_record import RequestRow
from loadtests.model.scenario import RequestKind, Scenario, SloSettings

Labels = tuple[str, str, str, str, str, str]
"""In the order of `run_record.GROUPS`."""


class FinishedRequest(msgspec.Struct):
    """Times are seconds from the beginning of the run."""

    number: int
    kind: RequestKind
    answer: Answer
    intended_s: float
    free_s: float
    """When it could be sent: `intended_s`, or when there was a place for it."""
    sent_s: float
    """When its first attempt was sent."""
    begun_s: float
    """Of the process's clock: the beginning of the run."""
    connect_s: float | None = None
    turn: int = 0
    in_session: bool = False
    attempts: int = 1
    resumed: bool = False

    @property
    def outcome(self) -> str:
        return self.answer.failure or failures.OK

    @property
    def end_s(self) -> float:
        return (self.answer.end_s or self.begun_s) - self.begun_s

    @property
    def first_s(self) -> float | None:
        return None if self.answer.first_s is None else self.answer.first_s - self.begun_s

    @property
    def tpot_s(self) -> float | None:
        """(E2E - TTFT) / (tokens - 1); None with fewer than two tokens, and for an answer in one piece."""
        tokens, first = self.answer.output_tokens, self.first_s
        if tokens < 2 or first is None or self.kind.transport == "whole":
            return None
        return (self.end_s - first) / (tokens - 1)

    @property
    def itl_max_s(self) -> float:
        times = self.answer.times
        return float(np.diff(np.frombuffer(times)).max()) if len(times) > 1 else 0.0


def labels_of(request: FinishedRequest, scenario: Scenario) -> Labels:
    """What the request is grouped by."""
    kind = request.kind
    tenant = scenario.tenants.get(kind.tenant)
    return (
        kind.tenant,
        tenant.tier if tenant is not None else "",
        kind.model or scenario.target.model,
        kind.transport,
        kind.name,
        request.answer.rung,
    )


def slo_of(tier: str, scenario: Scenario) -> SloSettings:
    """The objectives of a tier's requests."""
    return scenario.tier_slo.get(tier, scenario.slo)


def is_good(request: FinishedRequest, slo: SloSettings) -> bool:
    """A whole answer that met every objective, from its intended time."""
    if request.answer.failure:
        return False
    if slo.e2e is not None and request.end_s - request.intended_s > slo.e2e:
        return False
    first, tpot = request.first_s, request.tpot_s
    if slo.ttft is not None and (first is None or first - request.intended_s > slo.ttft):
        return False
    if slo.tpot is not None and tpot is not None and tpot > slo.tpot:
        return False
    return slo.itl is None or request.itl_max_s <= slo.itl


def cost_of(request: FinishedRequest, labels: Labels, scenario: Scenario) -> float:
    """Money, as the server says it, else by the scenario's prices."""
    answer, usage = request.answer, request.answer.usage
    if usage is not None and (money := usage.money) is not None:
        return money
    price = scenario.prices.get(labels[5]) or scenario.prices.get(labels[2])
    if price is None:
        return 0.0
    cached = usage.cached_tokens if usage is not None else 0
    cached_price = price.input if price.cached_input is None else price.cached_input
    prompt = (answer.prompt_tokens - cached) * price.input + cached * cached_price
    return (prompt + answer.output_tokens * price.output) / 1e6


def row_of(request: FinishedRequest, labels: Labels, *, good: bool, measured: bool) -> RequestRow:
    """The request's row in the record."""
    answer = request.answer
    return RequestRow(
        number=request.number,
        kind=request.kind.name,
        outcome=request.outcome,
        intended_s=request.intended_s,
        sent_s=request.sent_s,
        end_s=request.end_s,
        tenant=labels[0],
        tier=labels[1],
        model=labels[2],
        transport=labels[3],
        session=request.number if request.in_session else -1,
        turn=request.turn,
        first_s=request.first_s,
        itl_max_s=request.itl_max_s,
        tpot_s=request.tpot_s,
        queue_s=answer.timings.get("queue"),
        prompt_tokens=answer.prompt_tokens,
        output_tokens=answer.output_tokens,
        status=answer.status,
        code=answer.code,
        rung=answer.rung,
        good=good,
        attempts=request.attempts,
        measured=measured,
        timings=answer.timings,
    )
