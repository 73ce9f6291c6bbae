"""The plan of a batch's request: as for any other of its tenant, but nothing is too late."""

from msgspec.structs import replace

from policies.model.plan import Plan, PlannedCascade, PlannedRung

_LONG_S = 86_400.0
"""As long as a batch may take."""
_UPSTREAM_TTFT_S, _UPSTREAM_STALL_S, _UPSTREAM_TOTAL_S = 600.0, 300.0, 3600.0
"""An upstream may hang; an engine of ours pauses batches for as long as others need it, and has a watchdog."""


def patient(plan: Plan, now: float) -> Plan:
    """The plan without deadlines, except where an upstream may hang, and without copies to other rungs."""
    cascade, hangs = plan.cascade, plan.has_upstream
    return replace(
        plan,
        rungs=tuple([_patient(rung) for rung in plan.rungs]),
        cascade=None if cascade is None else _patient_cascade(cascade),
        shadows=(),
        queue_s=_LONG_S,
        first_by=None,
        ttft_at=now + (_UPSTREAM_TTFT_S if hangs else _LONG_S),
        stall_s=_UPSTREAM_STALL_S if hangs else _LONG_S,
        total_at=now + (_UPSTREAM_TOTAL_S if hangs else _LONG_S),
    )


def _patient(rung: PlannedRung) -> PlannedRung:
    return replace(rung, ttft_s=None)


def _patient_cascade(cascade: PlannedCascade) -> PlannedCascade:
    return replace(cascade, small=_patient(cascade.small), large=_patient(cascade.large))
