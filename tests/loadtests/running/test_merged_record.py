"""Parts of a run become the record that one host would have written."""

import msgspec
import pytest

from config.model.table import Seconds
from loadtests.model.errors import RecordError
from loadtests.model.latency_histogram import LatencyHistogram
from loadtests.model.record_file import decode_record, encode_record
from loadtests.model.run_record import RunHost, RunRecord, RunVerdict
from loadtests.model.scenario import LoadTenant
from loadtests.running.merged_record import merge_records
from tests.loadtests.synthetic_runs import SCENARIO, SyntheticRequest, synthetic_record

REQUESTS = [
    SyntheticRequest(
        at=number * 0.1,
        ttft=0.05 + number % 7 * 0.01,
        tenant=("", "a", "b")[number % 3],
        failure="truncated" if number % 11 == 0 else "",
    )
    for number in range(250)
]
TENANTS = msgspec.structs.replace(SCENARIO, tenants={"a": LoadTenant(tier="gold"), "b": LoadTenant()})


def part(place: int, requests: list[SyntheticRequest], parts: int = 2, scenario=TENANTS, **changes) -> RunRecord:
    record = synthetic_record(requests, scenario)
    host = RunHost(f"h{place}", place, parts, changes.pop("begun_at", 1000.0), changes.pop("clock_error_s", 0.001))
    header = msgspec.structs.replace(record.header, hosts=(host,))
    return msgspec.structs.replace(record, header=header, **changes)


def merged(*records: RunRecord) -> RunRecord:
    written = [decode_record(encode_record(record), "r") for record in records]
    return merge_records(written, [f"{place}.json" for place in range(len(records))])


def close(one: LatencyHistogram, other: LatencyHistogram) -> bool:
    """Equal, but for the last bits of a sum."""
    fields = (one.count, one.min_s, one.max_s, one.buckets) == (other.count, other.min_s, other.max_s, other.buckets)
    return fields and one.sum_s == pytest.approx(other.sum_s)


@pytest.mark.parametrize("parts", [2, 3])
def test_nothing_is_lost(parts: int) -> None:
    whole = synthetic_record(REQUESTS, TENANTS)
    found = merged(*[part(place, REQUESTS[place - 1 :: parts], parts) for place in range(1, parts + 1)])
    assert found.requests == whole.requests
    assert found.fairness == pytest.approx(whole.fairness)
    assert found.failures == whole.failures
    for mine, other in [
        (found.totals, whole.totals),
        *[(found.groups[by][name], each) for by, table in whole.groups.items() for name, each in table.items()],
        *[(one.measures, two.measures) for one, two in zip(found.windows, whole.windows, strict=True)],
    ]:
        latencies = zip(mine.latencies.items(), other.latencies.items(), strict=True)
        assert all(close(one, two) for (_, one), (_, two) in latencies)
        assert (mine.requests, mine.ok, mine.good, mine.failed) == (other.requests, other.ok, other.good, other.failed)
    assert [(one.begins_s, one.tokens, one.sent) for one in found.windows] == [
        (two.begins_s, two.tokens, two.sent) for two in whole.windows
    ]
    assert close(found.lag.sending, whole.lag.sending)
    assert sorted(row.intended_s for row in found.rows) == sorted(row.intended_s for row in whole.rows)
    assert [host.part for host in found.header.hosts] == list(range(1, parts + 1))
    assert found.verdict == RunVerdict()


def test_a_grouping_that_one_part_does_not_have() -> None:
    alone = [msgspec.structs.replace(request, tenant="") for request in REQUESTS[:50]]
    found = merged(part(1, alone), part(2, REQUESTS[50:]))
    assert "tenant" not in part(1, alone).groups
    assert sum(measures.requests for measures in found.groups["tenant"].values()) == found.totals.requests


def test_one_late_host_makes_the_run_invalid() -> None:
    late = part(2, REQUESTS[:2], verdict=RunVerdict(False, ("late",), cut_short=True))
    verdict = merged(part(1, REQUESTS[2:]), late).verdict
    assert (verdict.valid, verdict.reasons, verdict.cut_short) == (False, ("h2, part 2: late",), True)


def test_a_part_that_was_cut_short_does_not_raise_the_rates() -> None:
    short = part(2, [request for request in REQUESTS[1::2] if request.at < 10.0])
    short = msgspec.structs.replace(
        short,
        header=msgspec.structs.replace(short.header, measured_s=7.0),
        verdict=RunVerdict(cut_short=True),
    )
    for records in ([part(1, REQUESTS[::2]), short], [short, part(1, REQUESTS[::2])]):
        found = merged(*records)
        assert found.header.measured_s == part(1, REQUESTS).header.measured_s
        assert found.totals.requests / found.header.measured_s < 10
        assert any("h2, part 2: only 7 s of 27 s were measured" in each for each in found.verdict.warnings)


@pytest.mark.parametrize(
    ("changes", "valid", "words"),
    [
        ({"clock_error_s": None}, True, "h2, part 2: its clock is not known to be synchronised"),
        ({"clock_error_s": 0.4}, True, "its clock may be off by 0.4 s"),
        ({"begun_at": 1003.0}, False, "the hosts began 3.0 s apart"),
    ],
)
def test_what_is_known_of_clocks_is_said(changes, valid: bool, words: str) -> None:
    verdict = merged(part(1, REQUESTS[::2]), part(2, REQUESTS[1::2], **changes)).verdict
    assert verdict.valid is valid
    assert words in " ".join([*verdict.reasons, *verdict.warnings])


OTHER = msgspec.structs.replace(TENANTS, duration=Seconds(29))


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([synthetic_record(REQUESTS)], "0.json is no part of a run: load run --part 1/2 writes one"),
        ([part(1, REQUESTS, parts=1)], "is no part of a run"),
        ([part(1, REQUESTS)], "0.json is part 1 of 2, and 1 records are given"),
        ([part(1, REQUESTS), part(1, REQUESTS)], "1.json and 0.json are both part 1 of 2"),
        ([part(1, REQUESTS), part(2, REQUESTS, scenario=OTHER)], "no parts of one run: each has another scenario"),
    ],
)
def test_what_is_not_all_of_one_run_is_refused(records: list[RunRecord], words: str) -> None:
    with pytest.raises(RecordError) as caught:
        merged(*records)
    assert words in str(caught.value)


def test_rows_are_bounded_by_the_scenario() -> None:
    few = msgspec.structs.replace(TENANTS, rows=20)
    assert len(merged(part(1, REQUESTS[::2], scenario=few), part(2, REQUESTS[1::2], scenario=few)).rows) == 20
