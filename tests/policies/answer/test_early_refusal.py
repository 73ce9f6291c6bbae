"""What every queue of a plan would refuse is refused without an attempt, and nothing else is."""

import msgspec
import pytest

from config.model.table import Seconds
from config.model.tenancy import QueueLimits, TenantSettings, TierSettings
from policies.answer.early_refusal import early_refusal
from policies.fallback.fallback_machine import GiveUp
from policies.model.plan import Plan, PlannedRung
from policies.queueing.backend_queue import BackendJob, BackendQueue
from policies.queueing.fair_queue import FairQueue
from policies.queueing.placement import EngineCapacity
from policies.queueing.queue_item import QueueItem

NOW = 20.0


class Job(BackendJob, frozen=True, kw_only=True):
    sequence_count = 1
    prompt_lengths = (1,)


def queue(per_s: int) -> BackendQueue[Job]:
    """One job runs, and four a second end. So many come from tenant "a", for twenty seconds."""
    tiers = {"default": TierSettings(queue=QueueLimits(wait=Seconds(10), requests=100))}
    fair: FairQueue[Job] = FairQueue(tiers, {"a": TenantSettings(), "b": TenantSettings()})
    made: BackendQueue[Job] = BackendQueue("engine", fair, [EngineCapacity(1, 16, ahead=0)])
    made.replica_up(0, 1)
    running: list[int | str] = []
    for tick in range(20 * per_s + 1):
        now = tick / per_s
        if tick % (per_s // 4) == 0:
            made.finished(running)
            running.clear()
        made.offer(
            Job(job_id=tick, tenant="a", prompt_tokens=1, tokens=1, deadline=now + 50, first_by=now + 1), now, [None]
        )
        made.advance(now, [None])
        running += [effect.job.job_id for effect in made.effects if type(effect).__name__ == "StartOn"]
        made.effects.clear()
    return made


def plan(*rungs: PlannedRung, first_by: float | None = NOW + 1) -> Plan:
    return Plan(
        route="r",
        rungs=rungs,
        cascade=None,
        ttft_at=99.0,
        first_by=first_by,
        total_at=99.0,
        stall_s=5.0,
        output_cap=None,
        midstream="error",
        reasons=(),
    )


NEWCOMER = QueueItem(job_id="r", tenant="a", prompt_tokens=1, tokens=1)
BUSY, OTHER, FREE = PlannedRung(to="busy"), PlannedRung(to="other"), PlannedRung(to="free")
QUEUES = {"busy": queue(40), "other": queue(24), "free": queue(4)}


@pytest.mark.parametrize(
    ("rungs", "backends"),
    [
        ((BUSY,), ("busy",)),
        ((BUSY, OTHER), ("busy", "other")),
        ((BUSY, msgspec.structs.replace(BUSY, retries=2)), ("busy",)),
    ],
)
def test_every_rung_would_refuse(rungs: tuple[PlannedRung, ...], backends: tuple[str, ...]) -> None:
    before = [each.statistics() for each in QUEUES.values()]
    found = early_refusal(plan(*rungs), NEWCOMER, QUEUES, NOW)
    assert found is not None
    assert [attempt.rung for attempt in found.history] == list(backends)
    assert {(attempt.outcome, attempt.why) for attempt in found.history} == {("refused", "wait_too_long")}
    give_up = found.give_up
    assert isinstance(give_up, GiveUp)
    assert give_up.status == 429
    assert give_up.retry_after_s is not None
    assert give_up.retry_after_s > 0
    assert [each.statistics() for each in QUEUES.values()] == before


@pytest.mark.parametrize(
    ("wanted", "newcomer"),
    [
        (plan(BUSY, FREE), NEWCOMER),
        (plan(FREE), NEWCOMER),
        (plan(BUSY, PlannedRung(answer="Sorry.", mark="static")), NEWCOMER),
        (plan(BUSY, first_by=None), NEWCOMER),
        (plan(BUSY), msgspec.structs.replace(NEWCOMER, tenant="b")),
        (plan(BUSY), msgspec.structs.replace(NEWCOMER, tenant="unknown")),
        # The plan's own end is not one of overload.
        (plan(), NEWCOMER),
    ],
)
def test_a_rung_may_take_it(wanted: Plan, newcomer: QueueItem) -> None:
    assert early_refusal(wanted, newcomer, QUEUES, NOW) is None


def test_what_is_down_refuses_with_its_own_words() -> None:
    made = queue(40)
    assert made.refuses(msgspec.structs.replace(NEWCOMER, deadline=99.0, first_by=NOW + 1), NOW) is not None
    made.replica_down(0, "engine_failed", "It broke.", NOW)
    assert early_refusal(plan(BUSY), NEWCOMER, {"busy": made}, NOW) is None
