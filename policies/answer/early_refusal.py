"""Refuses a request under overload before its prompt is read: what no rung of its plan would take.

Reading the prompt, a reservation and an entry of the ledger cost most of a refusal, on the cores that also compute. So
where enough of a tenant's requests wait already (`LineLoad`), the queues are consulted first. What they say does not
depend on the prompt's size, so an estimate of it will do, if the plan does not depend on it either.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from policies.answer.answer_machine import spread
from policies.fallback.fallback_machine import FallbackMachine, GiveUp, RungRefused, Try
from policies.model.plan import AttemptRecord, Plan
from policies.queueing.backend_queue import BackendQueue, reason_code
from policies.queueing.queue_item import QueueItem


class EarlyRefusal(msgspec.Struct, frozen=True):
    """Why the request ends before it has begun."""

    give_up: GiveUp
    history: tuple[AttemptRecord, ...]
    """The backends that would have rejected it, and why."""


def early_refusal(
    plan: Plan, newcomer: QueueItem, queues: Mapping[str, BackendQueue[Any]], now: float, random01: float = 0.0
) -> EarlyRefusal | None:
    """What the plan leads to if its queues refuse this newcomer now, whatever its size; None: one may take it.

    `newcomer`: its deadlines are the plan's. `random01`: see `spread`.
    """
    machine = FallbackMachine(plan)
    effect = machine.start(now)
    while isinstance(effect, Try):
        item = msgspec.structs.replace(newcomer, deadline=effect.deadline, first_by=effect.first_by)
        why = queues[effect.rung].refuses(item, now)
        if why is None:
            return None
        refused = RungRefused(why=reason_code(why), message=str(why), retry_after_s=why.retry_after_s)
        following = machine.on(refused, now)
        assert following is not None, "a refusal always leads to something"
        effect = following
    if not isinstance(effect, GiveUp) or not machine.history:
        return None
    return EarlyRefusal(spread(effect, random01), machine.history)
