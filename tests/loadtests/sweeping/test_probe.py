"""What a run says of its rate."""

import msgspec
import pytest

from loadtests.model.run_record import RunWindow
from loadtests.model.scenario import SloSettings
from loadtests.sweeping.probe import is_growing, missed_shares, probe_of, share_error, time_parts
from tests.loadtests.synthetic_runs import SCENARIO, SyntheticRequest, even_run, synthetic_record

_STRICT = msgspec.structs.replace(SCENARIO, slo=SloSettings(ttft=0.2, itl=0.05, tpot=0.04, e2e=1.0))


def test_a_good_run_holds_and_a_bad_one_does_not() -> None:
    assert probe_of(even_run(_STRICT), 5.0, 0.95).holds > 0.95
    bad = probe_of(even_run(_STRICT, ttft=0.3), 5.0, 0.95)
    assert bad.holds < 0.01
    assert (bad.share, bad.missed) == (0.0, {"ttft": 1.0})


def test_few_requests_are_less_sure() -> None:
    errors = [share_error(even_run(_STRICT, every_s)) for every_s in (2.0, 0.2, 0.05)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] > 0


def test_misses_that_come_together_are_less_sure_than_those_that_are_spread() -> None:
    def run(is_bad) -> float:
        requests = [SyntheticRequest(at=n / 5, ttft=0.5 if is_bad(n) else 0.1) for n in range(150)]
        return share_error(synthetic_record(requests, _STRICT))

    assert run(lambda n: 50 <= n < 75) > 2 * run(lambda n: n % 6 == 0)


def test_each_slo_that_was_missed_has_its_share() -> None:
    requests = [
        SyntheticRequest(at=6.0),
        SyntheticRequest(at=6.5, ttft=0.3),
        SyntheticRequest(at=7.0, gaps=(0.3, 0.01, 0.01)),
        SyntheticRequest(at=7.5, failure="shed", status=429),
        SyntheticRequest(at=8.0, failure="truncated"),
    ]
    shares = missed_shares(synthetic_record(requests, _STRICT))
    assert shares == {"ttft": 0.2, "itl": 0.2, "tpot": 0.2, "shed": 0.2, "failed": 0.2}


def test_a_queue_that_grows() -> None:
    def record(counts):
        windows = tuple([RunWindow(begins_s=float(n), in_flight=count) for n, count in enumerate(counts)])
        return msgspec.structs.replace(even_run(), windows=windows)

    assert is_growing(record([n * 3 for n in range(30)]))
    assert not is_growing(record([20] * 30))
    assert not is_growing(record([0, 1, 2] * 10))
    assert not is_growing(record([]))


@pytest.mark.parametrize(
    ("timings", "parts"),
    [
        ({}, (None, None, None, None)),
        ({"queue": 0.05}, (0.05, None, None, None)),
        ({"prompt": 0.02, "predicted": 0.15}, (None, 0.02, 0.15, 0.11)),
    ],
)
def test_where_the_time_went(timings: dict[str, float], parts: tuple[float | None, ...]) -> None:
    record = even_run(timings=timings, late_s=0.0)
    found = time_parts([row for row in record.rows if row.measured])
    assert (found.client, found.before_first, found.after_first) == pytest.approx((0.0, 0.1, 0.18))
    got = (found.queue, found.prefill, found.decode, found.delivery)
    assert [None if each is None else round(each, 6) for each in got] == list(parts)
    assert time_parts([]) is None


def test_a_run_without_requests_is_not_valid() -> None:
    probe = probe_of(synthetic_record([]), 5.0, 0.95)
    assert not probe.valid
    assert "no request was due" in probe.reasons[0]


def test_clients_that_leave_are_neither_good_nor_bad() -> None:
    requests = [SyntheticRequest(at=n / 5, failure="left" if n % 2 else "") for n in range(150)]
    probe = probe_of(synthetic_record(requests, _STRICT), 5.0, 0.95)
    assert (probe.share, probe.good, probe.missed) == (1.0, probe.requests, {})
    assert probe.error < 0.05
    requests = [SyntheticRequest(at=n / 5, failure="left" if n % 2 else "truncated") for n in range(150)]
    assert missed_shares(synthetic_record(requests, _STRICT)) == {"failed": 1.0}
    requests = [SyntheticRequest(at=n / 5, failure="left") for n in range(150)]
    assert not probe_of(synthetic_record(requests, _STRICT), 5.0, 0.95).valid


def test_what_comes_after_the_run_is_not_in_its_rates() -> None:
    """A server that does one request in 0.4 s, one after the other, and is asked every 0.2 s."""
    requests = [SyntheticRequest(at=n / 5, ttft=0.1 + n / 5) for n in range(150)]
    record = synthetic_record(requests)
    probe = probe_of(record, 5.0, 0.95)
    assert (record.totals.good, record.totals.output_tokens) == (135, 1350)
    assert (probe.goodput, probe.tokens) == pytest.approx((2.5, 25.0), rel=0.02)
