"""The waiting line: order, fairness, bounds, and that nothing is lost."""

import math
from itertools import permutations
from random import Random

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from config.model.table import Bytes, Seconds
from config.model.tenancy import QueueLimits, TenantSettings, TierSettings
from policies.errors import IntegrityError, UnknownTenant
from policies.queueing.fair_queue import FairQueue
from policies.queueing.queue_item import Accepted, QueueFull, QueueItem
from policies.queueing.work_rate import OUTPUT_TOKEN_COST


def item(number: int, tenant: str = "a", prompt: int = 10, **more: float) -> QueueItem:
    return QueueItem(
        job_id=number,
        tenant=tenant,
        prompt_tokens=prompt,
        tokens=int(more.get("tokens", prompt)),
        bytes=int(more.get("size", 0)),
        deadline=more.get("deadline", math.inf),
    )


def queue(tiers: dict[str, TierSettings] | None = None, **tenants: TenantSettings) -> FairQueue[QueueItem]:
    return FairQueue(tiers or {"default": TierSettings()}, tenants or {"a": TenantSettings(), "b": TenantSettings()})


def drain(line: FairQueue[QueueItem], now: float = 1.0) -> list[str | int]:
    taken = []
    while (found := line.take(now)) is not None:
        taken.append(found.job_id)
    return taken


def test_within_a_tenant_the_earliest_deadline_first_then_arrival() -> None:
    line = queue()
    for number, deadline in enumerate([30.0, 20.0, 30.0, 20.0]):
        line.offer(item(number, deadline=deadline), 0.0)
    assert drain(line) == [1, 3, 0, 2]


def test_between_tiers_the_higher_priority_always() -> None:
    tiers = {"low": TierSettings(priority=0), "high": TierSettings(priority=10)}
    line = queue(tiers, l=TenantSettings(tier="low"), h=TenantSettings(tier="high"))
    for number in range(3):
        line.offer(item(number, "l"), 0.0)
        line.offer(item(10 + number, "h"), 0.0)
    assert drain(line) == [10, 11, 12, 0, 1, 2]


def test_between_tenants_prompt_tokens_by_weight() -> None:
    line = queue(None, a=TenantSettings(weight=3), b=TenantSettings(weight=1))
    for number in range(40):
        line.offer(item(number, "a"), 0.0)
        line.offer(item(100 + number, "b"), 0.0)
    first = [line.take(0.0) for _ in range(40)]
    assert sum(found is not None and found.tenant == "a" for found in first) == 30


def test_output_tokens_count_too() -> None:
    line = queue()
    for number in range(4):
        line.offer(item(number, "a"), 0.0)
        line.offer(item(10 + number, "b"), 0.0)
    assert line.take(0.0) is not None  # one of a's
    line.charge("a", 100)
    assert [found.tenant for found in (line.take(0.0) for _ in range(4)) if found] == ["b"] * 4
    assert line.statistics().counters["a"] == 10 + 100 * OUTPUT_TOKEN_COST


def test_idling_earns_no_credit() -> None:
    line = queue()
    for number in range(100):
        line.offer(item(number, "a"), 0.0)
    for _ in range(50):
        line.take(0.0)
    for number in range(100, 150):
        line.offer(item(number, "b"), 0.0)
    next_ones = [line.take(0.0) for _ in range(20)]
    assert sum(found is not None and found.tenant == "b" for found in next_ones) == 10


def test_a_tenant_that_comes_to_an_empty_line_is_lifted_to_the_last_that_left() -> None:
    line = queue()
    line.offer(item(1, "a", prompt=500), 0.0)
    line.take(0.0)
    line.offer(item(2, "b"), 0.0)
    assert line.statistics().counters["b"] == 500


def test_nothing_overtakes_what_does_not_fit_yet() -> None:
    line = queue()
    line.offer(item(1, "a", prompt=1000), 0.0)
    line.offer(item(2, "b", prompt=1), 0.0)
    assert line.take(0.0, lambda found: found.prompt_tokens < 100) is None
    assert line.take(0.0, lambda _: True) is not None
    assert len(line) == 1


def test_what_says_nothing_of_itself_waits_as_long_as_its_tier_and_has_no_bytes() -> None:
    line = queue({"default": TierSettings(queue=QueueLimits(wait=Seconds(5), bytes=Bytes(1)))})
    for number in range(3):
        assert line.offer(QueueItem(job_id=number, tenant="a", prompt_tokens=1, tokens=1), 2.0) == Accepted(7.0, None)
    assert (line.statistics().bytes, line.statistics().tokens) == (0, 3)
    assert [gone.job_id for gone in line.expire(7.0)] == [0, 1, 2]


def test_what_goes_on_waits_until_its_own_deadline() -> None:
    line = queue({"default": TierSettings(queue=QueueLimits(wait=Seconds(5)))})
    begun = QueueItem(job_id=1, tenant="a", prompt_tokens=1, tokens=1, deadline=90.0, wait_s=1.0, goes_on=True)
    assert line.offer(begun, 0.0) == Accepted(90.0, None)


def test_a_request_may_be_less_patient_than_its_tier() -> None:
    line = queue({"default": TierSettings(queue=QueueLimits(wait=Seconds(5)))})
    hasty = msgspec.structs.replace(item(1), wait_s=1.5)
    assert line.offer(hasty, 0.0) == Accepted(1.5, None)
    assert line.offer(msgspec.structs.replace(item(2), wait_s=60.0), 0.0) == Accepted(60.0, None)
    assert [gone.job_id for gone in line.expire(2.0)] == [1]


def test_expired_items_are_reported_once_and_never_served() -> None:
    line = queue({"default": TierSettings(queue=QueueLimits(wait=Seconds(5)))})
    assert line.offer(item(1), 0.0) == Accepted(5.0, None)
    line.offer(item(2, deadline=3.0), 0.0)
    line.offer(item(3), 1.0)
    assert line.next_expiry() == 3.0
    assert line.expire(2.9) == []
    found = line.take(5.0)
    assert found is not None
    assert found.job_id == 3
    assert line.next_expiry() == -math.inf
    assert [gone.job_id for gone in line.expire(5.0)] == [2, 1]
    assert line.expire(99.0) == []
    assert line.next_expiry() is None
    line.check_integrity()


def test_what_has_expired_takes_up_no_room() -> None:
    line = queue({"default": TierSettings(queue=QueueLimits(requests=1))})
    line.offer(item(1, deadline=3.0), 0.0)
    assert isinstance(line.offer(item(2), 2.0), QueueFull)
    assert isinstance(line.offer(item(2), 3.0), Accepted)
    assert [gone.job_id for gone in line.expire(3.0)] == [1]


def test_a_client_that_left_is_removed() -> None:
    line = queue()
    line.offer(item(1), 0.0)
    removed = line.remove(1)
    assert removed is not None
    assert removed.job_id == 1
    assert line.remove(1) is None
    assert line.take(0.0) is None
    line.offer(item(1), 0.0)
    assert drain(line) == [1]


@pytest.mark.parametrize("leaves", ["removed", "taken"])
def test_what_has_left_leaves_little_behind(leaves: str) -> None:
    waiting = queue({"default": TierSettings(queue=QueueLimits(requests=1000))})
    for number in range(500):
        assert isinstance(waiting.offer(item(number, deadline=1000.0 - number), 0.0), Accepted)
    waiting.check_integrity()
    for number in range(499):
        if leaves == "removed":
            assert waiting.remove(number) is not None
        else:
            assert waiting.take(0.0) is not None
        waiting.check_integrity()
    assert (len(waiting), waiting.waiting("default"), waiting.waiting("none")) == (1, 1, 0)


def bounded(**limits: int) -> FairQueue[QueueItem]:
    if "bytes" in limits:
        limits["bytes"] = Bytes(limits["bytes"])
    return queue({"default": TierSettings(queue=QueueLimits(**limits))})


def test_each_bound_refuses_with_its_reason() -> None:
    for line, reason in (
        (bounded(requests=1), "queue_requests_full"),
        (bounded(tokens=15), "queue_tokens_full"),
        (bounded(bytes=15), "queue_bytes_full"),
    ):
        assert isinstance(line.offer(item(1, size=10), 0.0), Accepted)
        full = line.offer(item(2, size=10), 0.0)
        assert isinstance(full, QueueFull)
        assert full.reason == reason
        assert full.retry_after_s is not None
        assert "full" in str(full)
        line.take(0.0)
        assert isinstance(line.offer(item(2, size=10), 0.0), Accepted)
        assert line.statistics().refused_total == {reason: 1}


def test_what_is_larger_than_the_queue_never_fits() -> None:
    full = bounded(tokens=15).offer(item(1, tokens=16), 0.0)
    assert isinstance(full, QueueFull)
    assert (full.reason, full.retry_after_s) == ("larger_than_queue", None)


def test_what_fills_the_queue_alone_fits() -> None:
    line = bounded(tokens=15, bytes=20)
    assert isinstance(line.offer(item(1, tokens=15, size=20), 0.0), Accepted)
    line.take(0.0)
    for tokens, size, limit in ((16, 20, 15), (15, 21, 20)):
        full = line.offer(item(1, tokens=tokens, size=size), 0.0)
        assert isinstance(full, QueueFull)
        assert (full.reason, full.retry_after_s, full.limit, full.used) == ("larger_than_queue", None, limit, limit + 1)
    assert (
        str(full)
        == "The request is too large for its tier's queue: 21 of at most 20. Shorten the prompt or lower max_tokens."
    )


@pytest.mark.parametrize(
    ("limits", "reason", "limit", "used"),
    [
        ({"requests": 2}, "queue_requests_full", 2, 2),
        ({"tokens": 29}, "queue_tokens_full", 29, 20),
        ({"bytes": 14}, "queue_bytes_full", 14, 10),
    ],
)
def test_a_full_queue_tells_its_bound_and_what_is_in_it(
    limits: dict[str, int], reason: str, limit: int, used: int
) -> None:
    line = bounded(**limits)
    for number in (1, 2):
        assert isinstance(line.offer(item(number, tokens=10, size=5), 0.0), Accepted)
    full = line.offer(item(3, tokens=10, size=5), 0.0)
    assert isinstance(full, QueueFull)
    assert (full.reason, full.limit, full.used, full.retry_after_s) == (reason, limit, used, 1.0)


def test_a_modest_tier_keeps_out_while_the_queue_is_full() -> None:
    tiers = {
        "high": TierSettings(priority=1, queue=QueueLimits(requests=5)),
        "low": TierSettings(priority=0, queue=QueueLimits(requests=5), admit_below=0.5),
    }
    line = queue(tiers, h=TenantSettings(tier="high"), l=TenantSettings(tier="low"))
    for number in range(5):
        assert isinstance(line.offer(item(number, "h"), 0.0), Accepted)
    full = line.offer(item(9, "l"), 0.0)
    assert isinstance(full, QueueFull)
    assert full.reason == "saturated"
    assert "50% full, and this tier is refused from 50% on" in str(full)
    line.take(0.0)
    assert isinstance(line.offer(item(9, "l"), 0.0), Accepted)


def test_retry_after_comes_from_the_measured_rate() -> None:
    line = bounded(requests=10)
    number = 0
    for second in range(60):
        while isinstance(line.offer(item(number), float(second)), Accepted):
            number += 1
        for now in (second + 0.25, second + 0.75):
            assert line.take(now) is not None
            assert line.take(now, lambda _: False) is None
    offers = [line.offer(item(-extra), 60.0) for extra in range(1, 5)]
    full = offers[-1]
    assert isinstance(full, QueueFull)
    assert full.retry_after_s == pytest.approx(0.5, rel=0.15)
    assert line.expected_wait_s(60.0) == pytest.approx(5.0, rel=0.15)


def learned(line: FairQueue[QueueItem], tenant: str = "a") -> None:
    """It gives out two each second while it is held up, for 20 seconds, and is empty afterwards."""
    for number in range(100, 140):
        line.offer(item(number, tenant, prompt=1), 0.0)
    for step in range(40):
        assert line.take(step / 2) is not None
        line.take(step / 2, lambda _: False)


def test_an_empty_line_has_no_wait() -> None:
    line = queue()
    assert line.expected_wait_s(0.0) == 0.0
    # Before anything was served there is no rate to tell a wait by.
    line.offer(item(1), 0.0)
    assert line.expected_wait_s(0.0) == 0.0
    line.remove(1)
    learned(line)
    assert (len(line), line.expected_wait_s(20.0)) == (0, 0.0)


@pytest.mark.parametrize(
    ("limits", "waits", "asks", "units"),
    [
        # One must leave, however small it is.
        ({"requests": 4}, [(10, 10)] * 4, (10, 10), 1.0),
        # Four of ten tokens wait, and ten or 25 more than may wait are asked for.
        ({"tokens": 40}, [(10, 0)] * 4, (10, 0), 1.0),
        ({"tokens": 40}, [(10, 0)] * 4, (25, 0), 2.5),
        ({"tokens": 40}, [(10, 0)] * 4, (1, 0), 1.0),
        ({"tokens": 41}, [(10, 0)] * 4, (31, 0), 3.0),
        # The same in bytes.
        ({"bytes": Bytes(40)}, [(1, 10)] * 4, (1, 10), 1.0),
        ({"bytes": Bytes(40)}, [(1, 10)] * 4, (1, 25), 2.5),
        ({"bytes": Bytes(41)}, [(1, 10)] * 4, (1, 31), 3.0),
    ],
)
def test_retry_after_is_what_must_leave_first(
    limits: dict[str, int], waits: list[tuple[int, int]], asks: tuple[int, int], units: float
) -> None:
    line = queue(
        {
            "default": TierSettings(queue=QueueLimits(**limits)),  # type: ignore[arg-type]
            "wide": TierSettings(queue=QueueLimits()),
        },
        a=TenantSettings(),
        w=TenantSettings(tier="wide"),
    )
    learned(line, "w")
    rate = line._rate.rate(20.0)
    assert rate == pytest.approx(2.0, rel=0.1)
    for number, (tokens, size) in enumerate(waits):
        assert isinstance(line.offer(item(number, tokens=tokens, size=size), 20.0), Accepted)
    full = line.offer(item(99, tokens=asks[0], size=asks[1]), 20.0)
    assert isinstance(full, QueueFull)
    assert full.retry_after_s == pytest.approx(units / rate)


@pytest.mark.parametrize(
    ("requests", "tokens", "size", "fill"), [(9, 999, 4999, 0.4), (99, 79, 4999, 0.5), (99, 999, 49, 0.8)]
)
def test_the_fullest_bound_of_all_tiers_decides(requests: int, tokens: int, size: int, fill: float) -> None:
    for admit_below in (fill + 0.01, fill, fill - 0.01):
        one_more = QueueLimits(requests=1, tokens=1, bytes=Bytes(1))
        tiers = {
            "high": TierSettings(priority=1, queue=QueueLimits(requests=requests, tokens=tokens, bytes=Bytes(size))),
            "low": TierSettings(queue=one_more, admit_below=admit_below),
        }
        line = queue(tiers, h=TenantSettings(tier="high"), l=TenantSettings(tier="low"))
        for number in range(4):
            assert isinstance(line.offer(item(number, "h", tokens=10, size=10), 0.0), Accepted)
        found = line.offer(item(9, "l", tokens=0, size=0), 0.0)
        if admit_below > fill:
            assert isinstance(found, Accepted)
        else:
            assert isinstance(found, QueueFull)
            assert (found.reason, found.limit, found.used) == ("saturated", admit_below, pytest.approx(fill))


@pytest.mark.parametrize(("admit_below", "units"), [(0.3, 20.0), (0.55, 10.0), (0.79, 1.0)])
def test_a_modest_tier_comes_back_when_enough_has_left(admit_below: float, units: float) -> None:
    tiers = {
        "high": TierSettings(priority=1, queue=QueueLimits(requests=49)),
        "low": TierSettings(queue=QueueLimits(requests=1), admit_below=admit_below),
    }
    line = queue(tiers, h=TenantSettings(tier="high"), l=TenantSettings(tier="low"))
    learned(line, "h")
    rate = line._rate.rate(20.0)
    # Forty of fifty places are taken, which is 0.8.
    for number in range(40):
        assert isinstance(line.offer(item(number, "h"), 20.0), Accepted)
    full = line.offer(item(99, "l"), 20.0)
    assert isinstance(full, QueueFull)
    assert full.reason == "saturated"
    assert full.retry_after_s == pytest.approx(units / rate)


def test_what_never_waits_teaches_no_rate() -> None:
    line = bounded(requests=10)
    for number in range(1000):
        line.offer(item(number), number * 0.01)
        line.take(number * 0.01 + 0.0001, lambda _: True)
    for number in range(1000, 1010):
        line.offer(item(number), 10.0)
    full = line.offer(item(-1), 10.0)
    assert isinstance(full, QueueFull)
    assert full.retry_after_s == 1.0


def test_time_without_a_line_does_not_slow_the_rate() -> None:
    line = bounded(requests=10)
    number = 0
    for second in range(0, 600, 60):
        for _ in range(10):
            number += 1
            line.offer(item(number), float(second))
        for step in range(9):
            assert line.take(second + 0.1 * step) is not None
            line.take(second + 0.1 * step, lambda _: False)
        line.remove(number)
    for _ in range(10):
        number += 1
        line.offer(item(number), 900.0)
    assert line.expected_wait_s(900.0) == pytest.approx(1.0, rel=0.2)


def test_a_line_is_cleared_without_charges() -> None:
    line = queue()
    for number in range(3):
        line.offer(item(number), 0.0)
    assert [gone.job_id for gone in line.clear()] == [0, 1, 2]
    assert len(line) == 0
    assert line.statistics().counters == {"a": 0.0, "b": 0.0}
    line.check_integrity()


def test_unknown_tenants_and_doubled_ids() -> None:
    line = queue()
    line.offer(item(1), 0.0)
    with pytest.raises(ValueError, match="1 waits already"):
        line.offer(item(1), 0.0)
    with pytest.raises(UnknownTenant):
        line.offer(item(2, "nobody"), 0.0)
    line.charge("nobody", 1)
    assert "nobody" not in line.statistics().counters


@pytest.mark.parametrize("goes", "abcde")
def test_a_tenant_that_goes_leaves_the_others_in_their_order(goes: str) -> None:
    """Whatever heap their counters make."""
    tenants = {name: TenantSettings() for name in "abcde"}
    for tokens in permutations(range(1, 6)):
        line = queue(None, **tenants)
        for number, name in enumerate(tenants):
            line.offer(item(number, name, prompt=0), 0.0)
        owed = dict(zip(tenants, tokens, strict=True))
        for name, made in owed.items():
            line.charge(name, made)
        assert line.take(0.0, lambda _: False) is None
        line.remove("abcde".index(goes))
        line.apply_settings({"default": TierSettings()}, {name: each for name, each in tenants.items() if name != goes})
        served = [owed["abcde"[int(number)]] for number in drain(line)]
        assert served == sorted(served)
        assert len(served) == 4


@pytest.mark.parametrize("waiting", [0, 1, 100])
def test_those_who_left_do_not_pile_up(waiting: int) -> None:
    """Entries of those who left are swept out while others wait in front of and behind them."""
    line = queue()
    for number in range(waiting):
        assert isinstance(line.offer(item(number, "ab"[number % 2], deadline=1000.0), 0.0), Accepted)
    for number in range(1000, 1700):
        assert isinstance(line.offer(item(number, "ab"[number % 2], deadline=2000.0 - number % 7), 1.0), Accepted)
        if len(line) > waiting + 150:
            line.check_integrity()
            for gone in range(number - 150, number + 1):
                line.remove(gone)
                line.check_integrity()
    left = line.clear()
    assert {each.job_id for each in left} >= set(range(waiting))


@pytest.mark.parametrize("leaves", ["removed", "expired"])
def test_the_order_survives_those_who_leave(leaves: str) -> None:
    """Deadlines in no order, most of the requests gone, so that dead entries are swept out of both heaps."""
    chance = Random(5)
    line = queue({"default": TierSettings(queue=QueueLimits(requests=1000, wait=Seconds(10_000)))})
    deadlines = {number: float(chance.randrange(100, 5000)) for number in range(600)}
    for number, deadline in deadlines.items():
        line.offer(item(number, deadline=deadline), 0.0)
    if leaves == "removed":
        for number in chance.sample(range(600), 500):
            line.remove(number)
            del deadlines[number]
            line.check_integrity()
            assert line.next_expiry() == min(deadlines.values())
    else:
        gone = [each.job_id for each in line.expire(4000.0)]
        assert sorted(gone, key=str) == sorted([n for n, at in deadlines.items() if at <= 4000.0], key=str)
        for number in gone:
            del deadlines[int(number)]
    line.check_integrity()
    assert [deadlines[int(number)] for number in drain(line, 1.0)] == sorted(deadlines.values())


def test_the_first_may_leave_before_it_is_served() -> None:
    line = queue()
    for number in range(4):
        line.offer(item(number, deadline=10.0 + number), 0.0)
    line.remove(0)
    line.remove(1)
    assert line.next_expiry() == 12.0
    assert drain(line) == [2, 3]


def test_what_is_charged() -> None:
    line = queue(None, a=TenantSettings(weight=2), b=TenantSettings(weight=0.5))
    for number, name in enumerate("ab"):
        line.offer(item(number, name, prompt=30), 0.0)
    assert len(drain(line)) == 2
    for name in "ab":
        line.charge(name, 5)
    assert line.statistics().counters == {"a": 30 / 2 + 2 * 5 / 2, "b": 30 / 0.5 + 2 * 5 / 0.5}
    line.apply_settings({"default": TierSettings()}, {"a": TenantSettings(weight=4), "b": TenantSettings()})
    for name in "ab":
        line.charge(name, 4)
    assert line.statistics().counters == {"a": 20.0 + 2 * 4 / 4, "b": 80.0 + 2 * 4}


def test_a_tenant_that_moves_to_another_tier_earns_no_credit_there() -> None:
    tiers = {"one": TierSettings(), "two": TierSettings()}
    line = queue(tiers, a=TenantSettings(tier="one"), b=TenantSettings(tier="two"))
    line.charge("b", 50)
    line.offer(item(1, "a"), 0.0)
    line.offer(item(2, "b"), 0.0)
    line.apply_settings(tiers, {"a": TenantSettings(tier="two"), "b": TenantSettings(tier="two")})
    assert line.statistics().counters == {"a": 100.0, "b": 100.0}
    # A tier without tenants stays.
    assert {name: use.requests for name, use in line.statistics().tiers.items()} == {"one": 0, "two": 2}


def test_lowered_bounds_are_told_with_what_waits_already() -> None:
    line = bounded(requests=4)
    for number in range(4):
        line.offer(item(number), 0.0)
    line.apply_settings(
        {"default": TierSettings(queue=QueueLimits(requests=2))}, {"a": TenantSettings(), "b": TenantSettings()}
    )
    full = line.offer(item(9), 0.0)
    assert isinstance(full, QueueFull)
    assert (full.reason, full.limit, full.used) == ("queue_requests_full", 2, 4)


def test_a_tier_that_keeps_nothing_back_is_not_saturated_by_another() -> None:
    limits = {"requests": 10, "tokens": 1000}
    tiers = {name: TierSettings(queue=QueueLimits(**limits)) for name in ("one", "two")}
    tenants = {"a": TenantSettings(tier="one"), "b": TenantSettings(tier="two")}
    line = queue(tiers, **tenants)
    for number in range(10):
        line.offer(item(number, "a"), 0.0)
    tiers["one"] = TierSettings(queue=QueueLimits(requests=1))
    tiers["two"] = TierSettings(queue=QueueLimits(requests=2))
    line.apply_settings(tiers, tenants)
    assert isinstance(line.offer(item(20, "b"), 0.0), Accepted)


def test_a_tenant_that_is_gone_from_the_settings_keeps_what_waits() -> None:
    line = queue()
    line.offer(item(1, "a"), 0.0)
    line.apply_settings({"default": TierSettings()}, {"b": TenantSettings()})
    line.check_integrity()
    assert drain(line) == [1]


def test_the_expected_wait_of_one_that_is_accepted() -> None:
    line = bounded(requests=20)
    for number in range(11):
        line.offer(item(number), 0.0)
    line.take(0.0, lambda _: False)
    for step in range(1, 6):
        assert line.take(step * 1.0) is not None
    accepted = line.offer(item(99), 5.0)
    assert isinstance(accepted, Accepted)
    assert accepted.expected_wait_s == line.expected_wait_s(5.0) == pytest.approx(7.0, rel=0.3)


def test_integrity_is_really_checked() -> None:
    line = queue()
    line.offer(item(1), 0.0)
    line.use.tokens += 1
    with pytest.raises(IntegrityError):
        line.check_integrity()


def test_a_full_queue_is_shared_between_tenants() -> None:
    line = bounded(requests=10)
    for number in range(10):
        assert isinstance(line.offer(item(number, "a"), 0.0), Accepted)
    for number in range(10, 14):
        assert line.offer(item(number, "b"), 0.0) == Accepted(30.0, None, 1)
    # The newest ones of the tenant with more than its share, each once.
    assert [found.job_id for found, _ in line.displaced()] == [9, 8, 7, 6]
    assert line.displaced() == []
    line.offer(item(14, "b"), 0.0)
    ((found, why),) = line.displaced()
    assert (found.job_id, why.reason, why.limit, why.used) == (5, "queue_requests_full", 10, 10)
    # Both have the same now: neither takes a place of the other.
    for number, tenant in ((15, "a"), (16, "b")):
        assert isinstance(line.offer(item(number, tenant), 0.0), QueueFull)
    assert line.displaced() == []
    assert (line.statistics().displaced_total, line.statistics().refused_total) == (5, {"queue_requests_full": 7})
    line.check_integrity()


def test_places_are_shared_by_weight() -> None:
    line = queue(
        {"default": TierSettings(queue=QueueLimits(requests=12))}, a=TenantSettings(), b=TenantSettings(weight=3)
    )
    for number in range(12):
        line.offer(item(number, "a"), 0.0)
    accepted = [isinstance(line.offer(item(number, "b"), 0.0), Accepted) for number in range(12, 24)]
    assert accepted == [True] * 9 + [False] * 3


def test_places_are_shared_by_the_bound_that_is_used_most() -> None:
    """Few large requests fill the queue as many small ones do."""
    line = bounded(requests=100, tokens=100)
    for number in range(4):
        line.offer(item(number, "a", tokens=25), 0.0)
    assert line.offer(item(10, "b", tokens=30), 0.0) == Accepted(30.0, None, 2)
    # Now a has 50 tokens and b 30: ten more are free, and 20 more would make b's share as large as a's.
    assert isinstance(line.offer(item(11, "b", tokens=30), 0.0), QueueFull)
    assert line.offer(item(12, "b", tokens=20), 0.0) == Accepted(30.0, None, 0)


def test_what_would_not_fit_anyway_displaces_nothing() -> None:
    line = bounded(requests=10, tokens=100)
    for number in range(3):
        line.offer(item(number, "a", tokens=10), 0.0)
    line.offer(msgspec.structs.replace(item(9, "a", tokens=70), begun=True), 0.0)
    assert isinstance(line.offer(item(10, "b", tokens=45), 0.0), QueueFull)
    assert (len(line), line.displaced()) == (4, [])


def test_begun_work_takes_a_place_and_is_not_displaced() -> None:
    line = bounded(requests=2)
    for number in range(2):
        line.offer(item(number, "a"), 0.0)
    begun = [msgspec.structs.replace(item(number, "a"), begun=True) for number in range(5, 8)]
    assert line.offer(begun[0], 0.0) == Accepted(30.0, None, 1)
    assert line.offer(begun[1], 0.0) == Accepted(30.0, None, 1)
    assert isinstance(line.offer(begun[2], 0.0), QueueFull)
    assert isinstance(line.offer(item(9, "b"), 0.0), QueueFull)
    assert [found.job_id for found, _ in line.displaced()] == [1, 0]


def test_begun_work_is_before_the_newcomers_of_its_tier_only() -> None:
    tiers = {"low": TierSettings(priority=0), "high": TierSettings(priority=10)}
    line = queue(tiers, l=TenantSettings(tier="low"), m=TenantSettings(tier="low"), h=TenantSettings(tier="high"))
    for number, tenant in enumerate("lmh"):
        line.offer(item(number, tenant), 0.0)
    for number, tenant in enumerate("llm", start=10):
        line.offer(msgspec.structs.replace(item(number, tenant), begun=True), 0.0)
    # Between the tenants by their counters, as everywhere.
    assert drain(line) == [2, 10, 12, 11, 1, 0]


def test_above_admit_below_the_lowest_tier_makes_room() -> None:
    tiers = {
        "high": TierSettings(priority=2, queue=QueueLimits(requests=5), admit_below=0.5),
        "low": TierSettings(priority=1, queue=QueueLimits(requests=5)),
    }
    line = queue(tiers, h=TenantSettings(tier="high"), l=TenantSettings(tier="low"))
    for number in range(5):
        assert isinstance(line.offer(item(number, "l"), 0.0), Accepted)
    assert isinstance(line.offer(item(10, "h"), 0.0), Accepted)
    ((found, why),) = line.displaced()
    assert (found.job_id, why.reason) == (4, "saturated")


def test_of_two_equal_tenants_the_quiet_one_is_served_all_that_fits_its_share() -> None:
    """Open loop: 4 a second are served, one tenant sends 10 a second and the other 1, then 3."""
    for quiet, expected in ((1, 1.0), (3, 2.0)):
        line = bounded(requests=16)
        served = {"a": 0, "b": 0}
        number = 0
        for tick in range(1200):
            for tenant in ["a"] * (tick % 2 == 0) + ["b"] * (tick % (20 // quiet) == 1):
                number += 1
                line.offer(item(number, tenant), tick / 20)
            line.displaced()
            if tick % 5 == 0:
                found = line.take(tick / 20)
                if found is not None:
                    served[found.tenant] += 1
        rates = [served["b"] / 60 / expected, served["a"] / 60 / (4 - expected)]
        assert sum(rates) ** 2 / (2 * sum(rate**2 for rate in rates)) >= 0.95
        assert rates[0] >= 0.95


def measured(**limits: int) -> FairQueue[QueueItem]:
    """Four jobs of one token each were taken per second for twenty seconds, and it is 20.0."""
    line = bounded(requests=1000, **limits)
    for number in range(1000, 1081):
        line.offer(item(number, "a", prompt=1), 0.0)
    for step in range(80):
        assert line.take(step / 4) is not None
        line.take(step / 4, lambda _: False)
    line.remove(1080)
    assert len(line) == 0
    return line


def due(number: int, tenant: str, first_by: float, **more: float) -> QueueItem:
    return msgspec.structs.replace(item(number, tenant, prompt=1, **more), first_by=first_by)


def test_one_that_would_wait_too_long_is_refused_at_once() -> None:
    line = measured()
    results = [line.offer(due(number, "a", 21.0), 20.0) for number in range(10)]
    # Four a second: the first four start within a second.
    assert [isinstance(result, Accepted) for result in results] == [True] * 4 + [False] * 6
    late = results[-1]
    assert isinstance(late, QueueFull)
    assert (late.reason, late.limit) == ("wait_too_long", pytest.approx(1.0))
    assert late.used == pytest.approx(1.25, rel=0.1)
    assert "would wait about 1." in str(late)
    assert line.statistics().refused_total == {"wait_too_long": 6}
    # Whoever has more time is accepted.
    assert isinstance(line.offer(due(20, "a", 22.0), 20.0), Accepted)


def test_the_first_content_takes_time_too() -> None:
    line = measured()
    for _ in range(50):
        line.first_output("b", 0.5)
    results = [line.offer(due(number, "a", 21.0), 20.0) for number in range(4)]
    assert [isinstance(result, Accepted) for result in results] == [True] * 2 + [False] * 2
    for _ in range(50):
        line.first_output("a", 1.5)
    late = line.offer(due(10, "a", 21.0), 20.0)
    assert isinstance(late, QueueFull)
    assert str(late) == "Its first token would come after its deadline; try again later."
    line.first_output("nobody", 1.0)
    # What starts at once is not refused, nor dropped as late: nothing else would measure the time anew.
    line.clear()
    assert line.pass_by(due(11, "a", 21.0), 20.0) is None


def test_to_pass_by_is_to_be_offered_and_taken() -> None:
    """In all that decides about later requests."""
    rng = Random(5)
    passed, taken = [queue(a=TenantSettings(), b=TenantSettings(weight=3), c=TenantSettings()) for _ in range(2)]
    now = 0.0
    for number in range(300):
        now += rng.random()
        tenant = rng.choice("abc")
        one = item(number, tenant, prompt=rng.choice((1, 40, 4_000_000)))
        answers = passed.pass_by(one, now), taken.offer(one, now)
        refused = isinstance(answers[1], QueueFull)
        assert refused == (answers[0] is not None)
        assert refused or taken.take(now) is one
        for line in (passed, taken):
            line.charge(tenant, number % 7)
            line.first_output(tenant, 0.1)
            if number % 10 == 0:
                waits = [line.offer(item(1000 + number + place, name), now) for place, name in enumerate("abc")]
                assert all(isinstance(each, Accepted) for each in waits)
        if number % 10 == 0:
            assert [passed.take(now) for _ in range(3)] == [taken.take(now) for _ in range(3)]
        assert passed.statistics() == taken.statistics()
        assert passed.expected_wait_s(now) == taken.expected_wait_s(now)
    with pytest.raises(UnknownTenant):
        passed.pass_by(item(0, "nobody"), now)


def test_the_first_in_line_is_not_refused_by_a_guess() -> None:
    line = measured()
    line.take(20.0, lambda _: False)
    line.offer(item(1, "a", prompt=1), 20.0)
    line.take(20.0, lambda _: False)
    line.remove(1)
    line.offer(item(2, "a", prompt=1), 20.0)
    line.take(20.0, lambda _: False)
    line.remove(2)
    # Nothing was taken for a long time, so that the rate is next to nothing.
    line.offer(item(3, "a", prompt=1), 20.0)
    line.take(20.0, lambda _: False)
    assert line.expire(60.0)
    assert isinstance(line.offer(due(4, "a", 61.0), 60.0), Accepted)
    assert isinstance(line.offer(due(5, "a", 61.0), 60.0), QueueFull)


def test_while_nothing_was_measured_the_bounds_decide() -> None:
    line = queue()
    assert all(isinstance(line.offer(due(number, "a", 0.001), 0.0), Accepted) for number in range(20))


def test_the_wait_follows_the_fair_order() -> None:
    line = measured()
    for number in range(40):
        line.offer(item(number, "a", prompt=1), 20.0)
    # 40 of the loud tenant wait ten seconds, but the quiet one's come in turn with them.
    assert isinstance(line.offer(due(100, "a", 21.0), 20.0), QueueFull)
    assert isinstance(line.offer(due(101, "b", 21.0), 20.0), Accepted)
    results = [isinstance(line.offer(due(number, "b", 21.0), 20.0), Accepted) for number in range(102, 108)]
    # With its credit of one second of the backend's work it is ahead with four of its own.
    assert results == [True, True, True, False, False, False]


def test_higher_tiers_and_begun_work_are_ahead() -> None:
    tiers = {"low": TierSettings(priority=0), "high": TierSettings(priority=10)}
    line = queue(tiers, l=TenantSettings(tier="low"), h=TenantSettings(tier="high"))
    for number in range(1000, 1081):
        line.offer(item(number, "h", prompt=1), 0.0)
    for step in range(80):
        line.take(step / 4)
        line.take(step / 4, lambda _: False)
    line.remove(1080)
    for number in range(8):
        line.offer(item(number, "l", prompt=1), 20.0)
    assert isinstance(line.offer(due(20, "h", 20.5), 20.0), Accepted)
    assert isinstance(line.offer(due(21, "l", 22.0), 20.0), QueueFull)
    begun = msgspec.structs.replace(due(22, "l", 20.1), begun=True)
    assert isinstance(line.offer(begun, 20.0), Accepted)
    assert [line.take(20.0).job_id for _ in range(2)] == [20, 22]  # type: ignore[union-attr]


def test_an_earlier_deadline_waits_less_within_its_tenant() -> None:
    line = measured()
    for number in range(8):
        line.offer(item(number, "a", prompt=1, deadline=90.0), 20.0)
    assert isinstance(line.offer(due(20, "a", 21.0, deadline=95.0), 20.0), QueueFull)
    assert isinstance(line.offer(due(21, "a", 21.0, deadline=80.0), 20.0), Accepted)


def test_what_waits_is_shed_when_it_is_expected_to_be_too_late() -> None:
    line = measured()
    for number in range(8):
        assert isinstance(line.offer(due(number, "a", 22.1), 20.0), Accepted)
    assert line.shed(20.0) == []
    # A second passes and nothing was taken: the newest will be too late at the best rate that chance allows.
    line.take(20.0, lambda _: False)
    assert line.shed(20.5) == []
    shed = line.shed(21.0)
    assert [found.job_id for found, _ in shed] == [7, 6, 5]
    assert {why.reason for _, why in shed} == {"wait_too_long"}
    assert (len(line), line.statistics().shed_total) == (5, 3)
    assert line.shed(21.0) == []
    line.check_integrity()


def under_load(
    per_s: int, seconds: int = 20, *, early: bool = False, **more: float
) -> tuple[FairQueue[QueueItem], list[int], int, int]:
    """Four a second are taken, so many offered, each with a second of time; the figures are of the second half.

    `early`: what would be refused is not offered. Returns (queue, how many wait after each offer, starts that found
    none, refused after they had waited).
    """
    line, waiting, missed, late = measured(), [], 0, 0
    for tick in range(20 * per_s, (20 + seconds) * per_s):
        now = tick / per_s
        half = now >= 20 + seconds / 2
        if tick % (per_s // 4) == 0:
            missed += line.take(now) is None and half
            line.take(now, lambda _: False)
        late += len([*line.shed(now), *line.expire(now)]) * half
        newcomer = due(tick, "a", now + 1.0, **more)
        why = line.refuses(newcomer, now)
        if why is not None and early:
            line.refused_early(newcomer, now)
        else:
            given = line.offer(newcomer, now)
            assert why is None or isinstance(given, QueueFull)
        if half:
            waiting.append(len(line))
    line.check_integrity()
    return line, waiting, missed, late


@pytest.mark.parametrize(("per_s", "most"), [(8, 3), (20, 2), (80, 1)])
def test_under_overload_as_many_wait_as_the_turns_need(per_s: int, most: int) -> None:
    _, waiting, missed, late = under_load(per_s)
    # In a second four would be served.
    assert max(waiting) <= most
    assert (missed, late) == (0, 0)


@pytest.mark.parametrize("per_s", [8, 20, 80])
def test_what_would_be_refused_need_not_be_offered(per_s: int) -> None:
    line, waiting, missed, late = under_load(per_s, early=True)
    offered, *figures = under_load(per_s)
    assert (waiting, missed, late) == tuple(figures)
    refused, counted = line.statistics().refused_total, offered.statistics().refused_total
    assert sum(refused.values()) == sum(counted.values())
    assert refused["overload"] > 0.8 * sum(refused.values())
    # Those that are refused later hear the same, too.
    another = due(9000, "a", 41.0)
    assert line.offer(another, 40.0) == offered.offer(another, 40.0)


def test_nobody_is_refused_early_where_the_offer_might_be_accepted() -> None:
    newcomer = due(9000, "a", 41.0, deadline=90.0)
    line, unasked = (under_load(20, deadline=90.0)[0] for _ in range(2))
    for each in (line, unasked):
        each.take(40.0)
        each.offer(newcomer, 40.0)
    assert line.may_refuse("a")
    why = line.refuses(msgspec.structs.replace(newcomer, job_id=9001), 40.0)
    assert why is not None
    assert why.reason == "overload"
    for other in (
        due(9002, "b", 41.0, deadline=90.0),
        due(9003, "a", 41.0, deadline=80.0),
        item(9004, "a", prompt=1, deadline=90.0),
        due(9005, "unknown", 41.0, deadline=90.0),
    ):
        assert line.refuses(other, 40.0) is None
    assert not line.may_refuse("b")
    assert not line.may_refuse("unknown")
    line.refused_early(due(9005, "unknown", 41.0), 40.0)
    # Nothing has changed by that, not even what the next one is told.
    another = due(9007, "a", 41.0, deadline=95.0)
    assert line.offer(another, 40.0) == unasked.offer(another, 40.0)
    # What waits has expired, and the load is of long ago.
    assert line.refuses(due(9006, "a", 50.0, deadline=95.0), 49.0) is None
    line.expire(49.0)
    assert line.refuses(due(9006, "a", 50.0, deadline=95.0), 49.0) is None
    # Nothing waits: whatever the load was, a newcomer may start.
    assert not line.may_refuse("a")


def test_a_line_at_which_nothing_is_late_is_as_long_as_the_time_allows() -> None:
    line, waiting, _, _ = under_load(4)
    assert max(waiting) <= 2
    results = [line.offer(due(number, "a", 41.0), 40.0) for number in range(9000, 9010)]
    assert sum(isinstance(result, Accepted) for result in results) >= 3
    assert {result.reason for result in results if isinstance(result, QueueFull)} == {"wait_too_long"}


def test_what_overload_does_not_take() -> None:
    line, _, _, _ = under_load(20, deadline=90.0)
    refused = [line.offer(due(number, "a", 41.0, deadline=90.0), 40.0) for number in range(9000, 9005)][-1]
    assert isinstance(refused, QueueFull)
    assert refused.reason == "overload"
    assert refused.retry_after_s is not None
    message = str(msgspec.structs.replace(refused, used=5.27))
    assert message.startswith("Overload: of yours 5.3 requests come for each that is served, and enough wait already;")
    # Another tenant, what is due before those that wait, what is never refused for its wait, and begun work.
    for other in (
        due(9010, "b", 41.0, deadline=90.0),
        due(9011, "a", 41.0, deadline=80.0),
        item(9012, "a", prompt=1, deadline=90.0),
        msgspec.structs.replace(due(9013, "a", 41.0, deadline=90.0), begun=True),
    ):
        assert isinstance(line.offer(other, 40.0), Accepted)


def test_a_newcomer_expires_when_its_first_content_would_be_late() -> None:
    line = queue()
    line.first_output("a", 0.5)
    assert line.offer(due(1, "a", 5.0), 0.0) == Accepted(4.5, None)
    begun = msgspec.structs.replace(due(2, "a", 5.0), begun=True)
    assert line.offer(begun, 0.0) == Accepted(30.0, None)


TIERS = {
    "high": TierSettings(priority=5, queue=QueueLimits(wait=Seconds(20), requests=6, tokens=300, bytes=Bytes(100))),
    "low": TierSettings(priority=1, queue=QueueLimits(wait=Seconds(50), requests=6, tokens=300), admit_below=0.8),
}
TENANTS = {
    "h1": TenantSettings(tier="high"),
    "h2": TenantSettings(tier="high", weight=2),
    "l1": TenantSettings(tier="low"),
    "l2": TenantSettings(tier="low", weight=0.5),
}


def share_of(items: list[QueueItem]) -> float:
    """Of the bound that they use most, by weight."""
    settings = TENANTS[items[0].tenant]
    queue = TIERS[settings.tier].queue
    fills = (
        len(items) / queue.requests,
        sum(each.tokens for each in items) / queue.tokens,
        sum(each.bytes for each in items) / queue.bytes,
    )
    return max(fills) / settings.weight


class FairQueueMachine(RuleBasedStateMachine):
    """Against a model that is a plain dictionary and looks at everything each time."""

    @initialize()
    def make(self) -> None:
        self.line: FairQueue[QueueItem] = FairQueue(TIERS, TENANTS)
        self.now = 0.0
        self.number = 0
        self.waiting: dict[int, tuple[QueueItem, float]] = {}
        self.gone: list[int] = []

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 21.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        tenant=st.sampled_from(sorted(TENANTS)),
        prompt=st.integers(0, 120),
        size=st.integers(0, 40),
        due=st.sampled_from([1.0, 10.0, 100.0, math.inf]),
        begun=st.booleans(),
    )
    def offer(self, tenant: str, prompt: int, size: int, due: float, begun: bool) -> None:
        self.number += 1
        offered = item(self.number, tenant, prompt, size=size, deadline=self.now + due)
        offered = msgspec.structs.replace(offered, begun=begun)
        tier = TIERS[TENANTS[tenant].tier]
        before = self.in_tier(tenant)
        given = self.line.offer(offered, self.now)
        displaced = [found for found, _ in self.line.displaced()]
        for found in displaced:
            assert not found.begun
            assert TIERS[TENANTS[found.tenant].tier].priority <= tier.priority
            if TENANTS[found.tenant].tier == TENANTS[tenant].tier and not begun:
                taker = [*(other for other in before if other.tenant == tenant), offered]
                holder = [other for other in before if other.tenant == found.tenant]
                assert share_of(taker) < share_of(holder)
                assert found.tenant != tenant
            mine = [p[0] for p in self.waiting.values() if p[0].tenant == found.tenant and not p[0].begun]
            newer = {int(each.job_id) for each in mine if int(each.job_id) > int(found.job_id)}
            assert newer <= {int(each.job_id) for each in displaced} | self.late()
            del self.waiting[int(found.job_id)]
            self.gone.append(int(found.job_id))
        own = self.in_tier(tenant)
        if isinstance(given, Accepted):
            assert given.displaced == len(displaced)
            assert len(own) < tier.queue.requests
            assert sum(other.tokens for other in own) + prompt <= tier.queue.tokens
            assert sum(other.bytes for other in own) + size <= tier.queue.bytes
            assert given.expires_at == min(offered.deadline, self.now + tier.queue.wait)
            self.waiting[self.number] = (offered, given.expires_at)
            return
        assert not displaced
        if given.reason == "queue_requests_full":
            assert len(own) >= tier.queue.requests
        elif given.reason == "queue_tokens_full":
            assert sum(other.tokens for other in own) + prompt > tier.queue.tokens

    def late(self) -> set[int]:
        return {number for number, (_, at) in self.waiting.items() if at <= self.now}

    def in_tier(self, tenant: str) -> list[QueueItem]:
        tier = TENANTS[tenant].tier
        return [each for each, at in self.waiting.values() if at > self.now and TENANTS[each.tenant].tier == tier]

    @rule(limit=st.sampled_from([math.inf, 50.0]))
    def take(self, limit: float) -> None:
        before = self.line.statistics().counters
        found = self.line.take(self.now, lambda offered: offered.prompt_tokens <= limit)
        alive = {number: pair for number, pair in self.waiting.items() if pair[1] > self.now}
        if found is None:
            assert limit < math.inf or not alive
            return
        number = int(found.job_id)
        assert number in alive
        top = max(TIERS[TENANTS[pair[0].tenant].tier].priority for pair in alive.values())
        assert TIERS[TENANTS[found.tenant].tier].priority == top
        rivals = [p[0] for p in alive.values() if TENANTS[p[0].tenant].tier == TENANTS[found.tenant].tier]
        if any(rival.begun for rival in rivals):
            rivals = [rival for rival in rivals if rival.begun]
        assert found in rivals
        assert before[found.tenant] == min(before[rival.tenant] for rival in rivals)
        same = [(rival.deadline, int(rival.job_id)) for rival in rivals if rival.tenant == found.tenant]
        assert (found.deadline, number) == min(same)
        del self.waiting[number]
        self.gone.append(number)

    @rule(tenant=st.sampled_from(sorted(TENANTS)), tokens=st.integers(0, 50))
    def charge(self, tenant: str, tokens: int) -> None:
        self.line.charge(tenant, tokens)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.waiting)))
        removed = self.line.remove(number)
        if removed is None:
            # Expired inside; it will be told.
            assert self.waiting[number][1] <= self.now
            return
        del self.waiting[number]
        self.gone.append(number)

    @rule()
    def expire(self) -> None:
        due = self.line.next_expiry()
        told = [int(found.job_id) for found in self.line.expire(self.now)]
        late = {number for number, (_, at) in self.waiting.items() if at <= self.now}
        assert set(told) == late
        assert len(told) == len(late)
        if late:
            assert due is not None
            assert due <= self.now
        for number in told:
            del self.waiting[number]
            self.gone.append(number)

    @invariant()
    def adds_up(self) -> None:
        self.line.check_integrity()

    def teardown(self) -> None:
        late = {int(found.job_id) for found in self.line.expire(self.now)}
        rest = {int(number) for number in drain(self.line, self.now)}
        assert late | rest == set(self.waiting)
        assert not late & rest
        assert sorted(self.gone + list(late | rest)) == sorted(set(self.gone) | late | rest)
        assert len(self.line) == 0


TestFairQueueMachine = FairQueueMachine.TestCase
TestFairQueueMachine.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)


def test_backlogged_tenants_never_drift_apart() -> None:
    """The paper's bound (theorem 4.4): the service of two backlogged tenants differs by a constant."""
    limits = QueueLimits(requests=2000)
    line = queue({"default": TierSettings(queue=limits)})
    bound = 2 * max(10 + 30 * OUTPUT_TOKEN_COST, 200 + 5 * OUTPUT_TOKEN_COST)
    served = {"a": 0.0, "b": 0.0}
    number = 0
    shapes = {"a": (10, 30), "b": (200, 5)}
    for _ in range(500):
        for tenant, (prompt, _) in shapes.items():
            number += 1
            line.offer(item(number, tenant, prompt), 0.0)
        found = line.take(0.0)
        assert found is not None
        output = shapes[found.tenant][1]
        line.charge(found.tenant, output)
        served[found.tenant] += found.prompt_tokens + output * OUTPUT_TOKEN_COST
        assert abs(served["a"] - served["b"]) <= bound
