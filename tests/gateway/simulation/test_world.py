"""The virtual clock: fast-forward changes no result, no request is lost, and overload is refused as in the service."""

import msgspec
import pytest

from config.model.conditions import SignalSettings
from config.model.routing import RouteSettings, RungSettings, Use
from config.model.settings import Settings
from config.model.tenancy import Budget
from gateway.profiling.profile import BadProfile, Profile
from gateway.simulation.report import SimulationReport, make_report
from gateway.simulation.world import World
from policies.records.trace import TraceRequest
from tests.gateway.simulation.worlds import policy, profile, trace

KINDS = ("window", "gate")


def play(
    settings: Settings, costs: Profile, requests: tuple[TraceRequest, ...], *, fast_forward: bool = True, seed: int = 1
) -> tuple[World, SimulationReport]:
    world = World(settings, costs, requests, seed=seed, shares={}, fast_forward=fast_forward)
    ended = world.run(lambda *_: None)
    for backend_queue in world.service.backend_queues.values():
        for engine in backend_queue.engines:
            engine.check_integrity()
            assert not engine.busy
        assert backend_queue.queue.in_hand == 0
        assert not len(backend_queue.queue)
        backend_queue.queue.check_integrity()
    assert sorted(each.number for each in world.answers) == list(range(len(requests)))
    return world, make_report(world, ended, "policy")


def rollout(world: World) -> list[object]:
    """Everything that happened to every request, to the last bit."""
    return [
        (a.number, a.outcome, a.code, a.rung, a.shown, a.first_at, a.ended_at, a.queue_wait_s, a.attempts, a.history)
        for a in world.answers
    ]


def test_an_encoder_is_not_simulated_and_refuses() -> None:
    settings, requests = policy(), trace(1, 40)
    without, expected = play(settings, profile(), requests)
    rungs = (RungSettings(to="mini"), *settings.ladders["safe"])
    settings = msgspec.structs.replace(
        settings,
        engines={"mini": settings.engines["small"], **settings.engines},
        ladders={**settings.ladders, "safe": rungs},
    )
    with pytest.raises(BadProfile, match="mini"):
        play(settings, profile(), requests)
    found, report = play(settings, msgspec.structs.replace(profile(), encoders=("mini",)), requests)
    assert {each.rung for each in found.answers} == {each.rung for each in without.answers}
    assert report.engines.keys() == expected.engines.keys()


def replicated(settings: Settings, **replicas: int) -> Settings:
    engines = dict(settings.engines)
    for name, count in replicas.items():
        engines[name] = msgspec.structs.replace(engines[name], replicas=count)
    return msgspec.structs.replace(settings, engines=engines)


@pytest.mark.parametrize("seed", range(6))
def test_fast_forward_gives_the_same_results_with_replicas(seed: int) -> None:
    settings = replicated(policy(running=3, memory=[28, 100, 2500][seed % 3], mode=KINDS[seed % 2]), small=2, large=3)
    requests = trace(seed, 150, per_s=[12.0, 40.0][seed % 2])
    costs = profile(beside=[1.0, 1.4][seed % 4 // 2])
    fast, report = play(settings, costs, requests)
    single, expected = play(settings, costs, requests, fast_forward=False)
    assert rollout(fast) == rollout(single)
    assert report == expected
    for backend_queue in fast.service.backend_queues.values():
        assert all(engine.busy_s > 0 for engine in backend_queue.engines)


def test_replicas_carry_what_one_engine_cannot() -> None:
    requests = trace(5, 200, per_s=40.0)
    _, one = play(policy(), profile(), requests)
    _, three = play(replicated(policy(), small=3, large=3), profile(), requests)
    assert three.goodput > one.goodput + 0.1
    assert three.engines["large"].busy < one.engines["large"].busy


def test_replicas_find_the_prefixes_that_they_hold() -> None:
    requests = tuple(
        msgspec.structs.replace(
            each, prompt_tokens=200, output_tokens=5, prefix=tuple(range(8 * (number % 6), 8 * (number % 6) + 8))
        )
        for number, each in enumerate(trace(5, 120, per_s=5.0))
    )
    settings = policy(memory=40)
    _, one = play(settings, profile(), requests)
    _, three = play(replicated(settings, small=3), profile(), requests)
    # None of them has room for all six beginnings: each keeps to some.
    assert three.engines["small"].prefix_hits > one.engines["small"].prefix_hits + 0.1


@pytest.mark.parametrize("seed", range(12))
def test_fast_forward_gives_the_same_results(seed: int) -> None:
    statistic, threshold = (("min_margin", 0.5), ("joint_margin", -2.0), ("low_quantile", 0.5))[seed // 4]
    settings = policy(
        running=3 + seed % 5,
        memory=[28, 100, 2500][seed % 3],
        mode=KINDS[seed % 2],
        answer=seed > 5,
        statistic=statistic,
        threshold=threshold,
    )
    requests = trace(seed, 150, per_s=[3.0, 12.0, 40.0][seed % 3])
    costs = profile(slow=[0.3, 1.0][seed % 2], beside=[1.0, 1.4][seed % 4 // 2])
    fast, report = play(settings, costs, requests)
    single, expected = play(settings, costs, requests, fast_forward=False)
    assert rollout(fast) == rollout(single)
    assert report == expected
    if seed in {3, 9}:
        assert report.engines["small"].preemptions


def test_the_same_seed_gives_the_same_bytes_and_another_one_others() -> None:
    settings, requests = policy(), trace(3, 80)
    first, second, other = (play(settings, profile(), requests, seed=seed)[1] for seed in (5, 5, 6))
    assert msgspec.json.encode(first) == msgspec.json.encode(second)
    assert msgspec.json.encode(first) != msgspec.json.encode(other)


def test_little_traffic_is_answered_within_its_promises() -> None:
    _, report = play(policy(quota=10**9), profile(slow=0.1), trace(1, 60, per_s=2.0))
    assert report.answered == report.requests
    assert report.goodput == 1.0
    assert report.sheds == ()
    assert 0.1 < report.escalated < 0.5
    assert report.cost > 0


def test_overload_is_refused_by_tier_and_reason() -> None:
    _, report = play(policy(answer=False), profile(slow=20.0), trace(1, 400, per_s=50.0))
    reasons = {(shed.tier, shed.reason) for shed in report.sheds}
    assert ("slow", "tokens_per_minute") in reasons
    assert any(tier == "fast" and reason in {"queue_full", "no_rung_available"} for tier, reason in reasons)
    assert sum(shed.requests for shed in report.sheds) == report.requests - report.answered
    assert report.goodput < 0.2


def test_engines_that_compute_side_by_side_slow_each_other_down() -> None:
    requests = trace(2, 80, per_s=8.0)
    _, alone = play(policy(quota=10**9), profile(), requests)
    _, beside = play(policy(quota=10**9), profile(beside=1.6), requests)
    assert alone.itl_s.p90 is not None
    assert beside.itl_s.p90 is not None
    assert beside.itl_s.p90 > 1.2 * alone.itl_s.p90


def test_a_static_answer_is_what_is_left_of_a_ladder() -> None:
    _, report = play(policy(answer=True), profile(slow=20.0), trace(1, 400, per_s=50.0))
    assert report.rungs["static_answer"] > 0.3


def test_common_beginnings_come_from_the_cache() -> None:
    requests = tuple(msgspec.structs.replace(each, choices=1) for each in trace(4, 60, per_s=2.0))
    _, shared = play(policy(quota=10**9), profile(), requests)
    alone = tuple(msgspec.structs.replace(each, prefix=()) for each in requests)
    _, own = play(policy(quota=10**9), profile(), alone)
    assert shared.engines["small"].prefix_hits > 0.03
    assert own.engines["small"].prefix_hits == 0.0


def test_tenants_find_each_others_beginnings_in_a_common_domain_only() -> None:
    requests = tuple(
        msgspec.structs.replace(each, choices=1, prefix=(1,), prefix_block=16, prompt_tokens=20, tenant=tenant)
        for each, tenant in zip(trace(4, 2, per_s=0.1), ("acme", "batch"), strict=True)
    )
    hits = []
    for domain in (None, "common"):
        settings = policy(quota=10**9)
        tenants = {
            name: msgspec.structs.replace(tenant, cache_domain=domain) for name, tenant in settings.tenants.items()
        }
        _, report = play(msgspec.structs.replace(settings, tenants=tenants), profile(), requests)
        hits.append(report.engines["small"].prefix_hits)
    assert hits[0] == 0.0 < hits[1]


def test_a_prompt_that_no_rung_can_take_is_refused_at_once() -> None:
    _, report = play(policy(), profile(), (TraceRequest(at=0, prompt_tokens=5000, output_tokens=1, margins=(1.0,)),))
    assert [shed.reason for shed in report.sheds] == ["context_length_exceeded"]


def test_gate_holds_the_beginning_back_until_the_end() -> None:
    request = TraceRequest(at=0, prompt_tokens=10, output_tokens=40, margins=(2.0,))
    gate, _ = play(policy(mode="gate"), profile(jitter=False), (request,))
    window, _ = play(policy(mode="window"), profile(jitter=False), (request,))
    assert gate.answers[0].first_at == gate.answers[0].ended_at == window.answers[0].ended_at
    assert window.answers[0].first_at is not None
    assert window.answers[0].first_at < 0.2 * window.answers[0].ended_at


def test_an_escalation_goes_on_after_what_was_released() -> None:
    request = TraceRequest(at=0, prompt_tokens=10, output_tokens=40, margins=(*[2.0] * 19, 0.1))
    world, report = play(policy(), profile(), (request,))
    answer = world.answers[0]
    assert [(note.rung, note.outcome) for note in answer.history] == [("small", "escalated"), ("large", "answered")]
    assert answer.shown == 40
    # Sixteen tokens were older than the window of three when the twentieth was below the threshold.
    assert [(rung, prompt) for rung, prompt, *_ in answer.attempts] == [("small", 10), ("large", 26)]
    assert report.escalated == 1.0


def test_a_spent_budget_keeps_to_the_small_stage() -> None:
    settings = policy(quota=10**9)
    poor = Budget(amount=0.02, per="day", when_spent="small_only")
    tenants = {name: msgspec.structs.replace(each, budget=poor) for name, each in settings.tenants.items()}
    settings = msgspec.structs.replace(settings, tenants=tenants)
    requests = trace(5, 120, per_s=3.0)
    _, free = play(policy(quota=10**9), profile(), requests)
    _, report = play(settings, profile(), requests)
    assert report.escalated < 0.8 * free.escalated
    assert report.cost < free.cost
    refusing = msgspec.structs.replace(poor, when_spent="refuse")
    tenants = {name: msgspec.structs.replace(each, budget=refusing) for name, each in settings.tenants.items()}
    _, strict = play(msgspec.structs.replace(settings, tenants=tenants), profile(), requests)
    assert "budget_spent" in {shed.reason for shed in strict.sheds}
    assert strict.cost <= 0.06


@pytest.mark.parametrize("when_spent", ["refuse", "downgrade", "small_only"])
def test_no_word_overspends_in_a_burst(when_spent: str) -> None:
    settings = policy(quota=10**9)
    lower = "slow" if when_spent == "downgrade" else None
    budget = Budget(amount=0.005, per="day", when_spent=when_spent, downgrade_to=lower)
    tenants = {name: msgspec.structs.replace(each, budget=budget) for name, each in settings.tenants.items()}
    _, report = play(msgspec.structs.replace(settings, tenants=tenants), profile(), trace(5, 60, per_s=2000.0))
    assert 0 < report.cost <= len(tenants) * budget.amount
    assert "budget_spent" in {shed.reason for shed in report.sheds}


def test_a_downgraded_tenant_waits_in_the_line_of_its_new_tier() -> None:
    settings = policy(quota=10**9, answer=False)
    # What the slow tier gets costs nothing: else it would not fit into the budget either.
    slow = settings.tiers["slow"]
    patient = msgspec.structs.replace(slow.queue, requests=60)
    free = RouteSettings(name="free", when=SignalSettings(tier=("slow",)), use=Use(ladder="free"))
    settings = msgspec.structs.replace(
        settings,
        prices={"large": settings.prices["large"]},
        routes=(msgspec.structs.replace(free, deadlines=settings.routes[0].deadlines), *settings.routes),
        ladders={**settings.ladders, "free": (RungSettings(to="small"),)},
        tiers={**settings.tiers, "slow": msgspec.structs.replace(slow, queue=patient)},
    )
    poor = Budget(amount=1e-9, per="day", when_spent="downgrade", downgrade_to="slow")
    tenants = dict(settings.tenants)
    tenants["acme"] = msgspec.structs.replace(tenants["acme"], budget=poor)
    requests = tuple([msgspec.structs.replace(each, tenant="acme") for each in trace(7, 60, per_s=20.0)])
    costs = profile(slow=3.0)
    _, report = play(msgspec.structs.replace(settings, tenants=tenants), costs, requests)
    _, before = play(settings, costs, requests)
    # Eight of the fast tier may wait for an engine, sixty of the slow one.
    assert "queue_full" in {shed.reason for shed in before.sheds}
    assert {shed.tier for shed in report.sheds} == {"slow"}
    assert "queue_full" not in {shed.reason for shed in report.sheds}
    assert report.answered > before.answered
