"""Nothing of a batch's request is too late; an upstream that hangs is given up."""

from policies.batching.patient_plan import patient
from policies.model.plan import Plan, PlannedCascade, PlannedRung, PlannedShadow


def plan(**more: object) -> Plan:
    values: dict[str, object] = {
        "route": "all",
        "rungs": (PlannedRung(to="small", ttft_s=0.5),),
        "cascade": None,
        "shadows": (PlannedShadow(name="copy", to="large"),),
        "queue_s": 1.0,
        "ttft_at": 102.0,
        "first_by": 101.0,
        "total_at": 130.0,
        "stall_s": 5.0,
        "output_cap": 7,
        "midstream": "continue",
        "reasons": (),
        **more,
    }
    return Plan(**values)  # type: ignore[arg-type]


def test_no_deadline_of_an_engine_stays() -> None:
    made = patient(plan(), 100.0)
    assert min(made.ttft_at, made.total_at) == 100.0 + 86_400.0
    assert (made.first_by, made.shadows, made.rungs[0].ttft_s) == (None, (), None)
    assert min(made.stall_s, made.queue_s or 0.0) == 86_400.0
    assert (made.output_cap, made.route) == (7, "all")


def test_both_stages_of_a_cascade_are_waited_for() -> None:
    stage = PlannedRung(to="small", ttft_s=0.5)
    cascade = PlannedCascade(
        small=stage,
        large=stage,
        threshold=0.0,
        mode="gate",
        window=0,
        start_on="small",
        may_escalate=True,
        why="default",
    )
    made = patient(plan(cascade=cascade), 100.0).cascade
    assert made is not None
    assert (made.small.ttft_s, made.large.ttft_s) == (None, None)


def test_an_upstream_may_not_hang_for_ever() -> None:
    made = patient(plan(rungs=(PlannedRung(to="far", is_upstream=True),)), 100.0)
    assert (made.ttft_at, made.stall_s, made.total_at) == (700.0, 300.0, 3700.0)
