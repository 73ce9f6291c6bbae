"""Cost of the decisions for one request, with 200 routes: median microseconds of each.

    python -m benchmarks.policies_decision

Figures are medians over batches, to reduce the effect of other load on the machine.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from config.load import load_settings
from config.model.conditions import SignalSettings
from config.model.routing import Deadlines, RouteSettings, RungSettings, Use
from config.model.settings import Settings
from config.model.table import Bytes, Range
from config.model.tenancy import QueueLimits, TenantSettings, TierSettings, TokenQuota
from config.profiles import embedded_profile
from policies.admission.keys import KeyRing, new_key
from policies.admission.quota import QuotaBook, Reservation
from policies.cascade.cascade import CascadeMachine
from policies.fallback.breaker import Breaker
from policies.fallback.fallback_machine import AttemptFinished, ContentSent, FallbackMachine
from policies.model.features import Features
from policies.model.load import EngineLoad, Load, Permit
from policies.model.plan import PlannedCascade, PlannedRung
from policies.queueing.fair_queue import FairQueue
from policies.queueing.queue_item import QueueItem
from policies.routing.complexity import complexity
from policies.routing.policy import Policy, make_plan

_ROUTES = 200
_TENANTS = 50
_TEXT = ("What is the 3rd word of each line? It must not be longer than 12 letters; explain why. " * 12)[:1000]


def median_us(step: Callable[[], object], batches: int, batch: int, per_step: int = 1) -> float:
    """Median over batches of the time of one step, divided by the operations per step."""
    samples = []
    for _ in range(batches):
        began = time.perf_counter()
        for _ in range(batch):
            step()
        samples.append((time.perf_counter() - began) / batch)
    return statistics.median(samples) / per_step * 1e6


def many_routes(by: Literal["model", "tag", "size"]) -> Settings:
    """200 routes of which the last one matches; conditions on names, or on sizes, which must be compared one by one."""
    conditions = {
        "model": lambda number: SignalSettings(model=(f"model-{number}",), prompt_tokens=Range(at_least=number)),
        "tag": lambda number: SignalSettings(tag=(f"tag-{number}",), prompt_tokens=Range(at_least=number)),
        "size": lambda number: SignalSettings(
            prompt_tokens=Range(at_least=1000 + number), complexity=Range(at_least=0.9)
        ),
    }
    routes = [
        RouteSettings(
            name=f"route-{number}",
            use=Use(ladder="one"),
            when=conditions[by](number),
        )
        for number in range(_ROUTES - 1)
    ]
    routes.append(RouteSettings(name="rest", use=Use(ladder="one"), deadlines=Deadlines()))
    return Settings(
        schema=1,
        engines={},
        models={},
        tiers={"default": TierSettings()},
        routes=tuple(routes),
        ladders={"one": (RungSettings(to="large", retries=1), RungSettings(answer="Sorry."))},
    )


def queue_costs(batches: int, batch: int) -> tuple[float, float]:
    """Offer and take with `_TENANTS` tenants and `batch` waiting requests."""
    limits = QueueLimits(requests=100_000, tokens=10**9, bytes=Bytes(2**40))
    queue: FairQueue[QueueItem] = FairQueue(
        {"default": TierSettings(queue=limits)}, {f"t{number}": TenantSettings() for number in range(_TENANTS)}
    )
    offers, takes = [], []
    number, now = 0, 0.0
    for _ in range(batches):
        items = [
            QueueItem(job_id=n, tenant=f"t{n * 7 % _TENANTS}", prompt_tokens=50 + n % 90, tokens=300, deadline=now + 30)
            for n in range(number, number + batch)
        ]
        number += batch
        began = time.perf_counter()
        for item in items:
            queue.offer(item, now)
        between = time.perf_counter()
        for _ in items:
            queue.take(now)
        takes.append((time.perf_counter() - between) / batch)
        offers.append((between - began) / batch)
        now += 0.1
    return statistics.median(offers) * 1e6, statistics.median(takes) * 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policies_decision")
    parser.add_argument("--batches", type=int, default=41, help="of which the median counts")
    parser.add_argument("--batch", type=int, default=400, help="steps of one")
    arguments = parser.parse_args()
    batches, batch = arguments.batches, arguments.batch
    microseconds = partial(median_us, batches=batches, batch=batch)
    load = Load(engines={name: EngineLoad(name=name) for name in ("small", "large")})
    features = Features(model="penstock", tenant="t", tier="default", prompt_tokens=120, max_tokens=64)
    embedded = Policy.compile(load_settings(Path(embedded_profile())), {"small": "t", "large": "t"})
    by_model, by_tag, by_size = (Policy.compile(many_routes(by)) for by in ("model", "tag", "size"))
    plan = make_plan(embedded, features, load, 0.0)
    key = new_key("t", bytes(range(38)))
    ring = KeyRing([key.settings])
    book = QuotaBook({"t": TenantSettings(tokens=TokenQuota(per_minute=10**12), concurrent=100)})
    breaker = Breaker(RungSettings().breaker)
    stage = PlannedRung(to="small", tokenizer="t")
    cascade = plan.cascade or PlannedCascade(
        small=stage, large=stage, threshold=1, mode="window", window=4, start_on="small", may_escalate=True, why=""
    )

    def machine() -> None:
        machine = FallbackMachine(plan)
        machine.start(0.0)
        machine.on(ContentSent(), 0.1)
        machine.on(AttemptFinished("confident"), 0.2)

    def window() -> None:
        machine = CascadeMachine(cascade, 1)
        for token in range(99):
            machine.on_output(0, (token,), "x", (3.0,), False)
        machine.on_output(0, (99,), "x", (3.0,), True)

    def quota() -> None:
        reservation = book.reserve("t", 300, 1.0)
        assert isinstance(reservation, Reservation)
        book.settle(reservation, 120)

    def breaker_round() -> None:
        permit = breaker.permit(1.0)
        assert isinstance(permit, Permit)
        breaker.record(permit, True, 1.0)

    offer_us, take_us = queue_costs(batches, batch)
    rows = (
        ("authenticate", microseconds(lambda: ring.authenticate(key.raw, 0.0))),
        ("complexity of 1,000 characters", microseconds(lambda: complexity(_TEXT))),
        ("match + plan, embedded profile", microseconds(lambda: make_plan(embedded, features, load, 0.0))),
        (f"match + plan, {_ROUTES} routes by model", microseconds(lambda: make_plan(by_model, features, load, 0.0))),
        (f"match + plan, {_ROUTES} routes by tag", microseconds(lambda: make_plan(by_tag, features, load, 0.0))),
        (f"match + plan, {_ROUTES} routes by size", microseconds(lambda: make_plan(by_size, features, load, 0.0))),
        ("quota: reserve + settle", microseconds(quota)),
        (f"queue: offer ({batch} wait, {_TENANTS} tenants)", offer_us),
        (f"queue: take ({batch} wait, {_TENANTS} tenants)", take_us),
        ("breaker: permit + record", microseconds(breaker_round)),
        ("machine: a whole one", microseconds(machine)),
        ("cascade window: one output of 100", microseconds(window, per_step=100)),
    )
    for name, cost_us in rows:
        print(f"{name:44s} {cost_us:8.2f} µs")


if __name__ == "__main__":
    main()
