"""One record from those of several hosts, which each sent a part of the same run. Pure.

Counts and histograms are added up, which loses nothing: the record is what one host would have written that had all
workers. Only the seconds depend on the hosts' clocks: a host whose clock is off has begun so much earlier or later.
Every latency is of one host's clock alone.
"""

from collections.abc import Sequence

import msgspec

from loadtests.model.errors import RecordError
from loadtests.model.run_record import GeneratorLag, Measures, RunHeader, RunRecord, RunVerdict, RunWindow
from loadtests.running.tally import merged_failures, sampled
from loadtests.running.verdict import fairness

_CLOCK_BOUND_S = 0.1
"""Of a second of the run, less than a host's clock may be off by."""


def merge_records(records: Sequence[RunRecord], names: Sequence[str]) -> RunRecord:
    """`names`: of the files, for messages. Raises RecordError."""
    _check(records, names)
    first = records[0].header
    totals, lag, windows = Measures(), GeneratorLag(), dict[float, RunWindow]()
    for record in records:
        totals.merge(record.totals)
        lag.merge(record.lag)
        for window in record.windows:
            windows.setdefault(window.begins_s, RunWindow(window.begins_s)).merge(window)
    groups = _groups(records)
    hosts = tuple(sorted([host for record in records for host in record.header.hosts], key=lambda host: host.part))
    header = msgspec.structs.replace(
        first,
        hosts=hosts,
        measured_s=max(record.header.measured_s for record in records),
        started_at=min(record.header.started_at for record in records),
        server=next((record.header.server for record in records if record.header.server), ""),
    )
    return RunRecord(
        header=header,
        verdict=_verdict(records, header),
        totals=totals,
        groups=groups,
        windows=tuple([windows[begins_s] for begins_s in sorted(windows)]),
        failures=tuple(merged_failures(each for record in records for each in record.failures)),
        lag=lag,
        fairness=fairness(groups.get("tenant", {})),
        rows=tuple(sampled([row for record in records for row in record.rows], first.scenario.rows, "rows")),
        requests=sum(record.requests for record in records),
    )


def _check(records: Sequence[RunRecord], names: Sequence[str]) -> None:
    """They are all parts of one run, and no part is there twice."""
    seen: dict[int, str] = {}
    first = records[0].header
    parts = len(records)
    for record, name in zip(records, names, strict=True):
        header = record.header
        if len(header.hosts) != 1 or header.hosts[0].parts == 1:
            raise RecordError(f"{name} is no part of a run: load run --part 1/{max(parts, 2)} writes one")
        host = header.hosts[0]
        if host.parts != parts:
            raise RecordError(f"{name} is part {host.part} of {host.parts}, and {parts} records are given")
        if host.part in seen:
            raise RecordError(f"{name} and {seen[host.part]} are both part {host.part} of {parts}")
        seen[host.part] = name
        for what, mine, other in (
            ("scenario", header.scenario, first.scenario),
            ("version of penstock", header.penstock, first.penstock),
        ):
            if mine != other:
                raise RecordError(f"{name} and {names[0]} are no parts of one run: each has another {what}")


def _groups(records: Sequence[RunRecord]) -> dict[str, dict[str, Measures]]:
    """A grouping that one record does not have is that of a single empty name."""
    found: dict[str, dict[str, Measures]] = {}
    for grouping in dict.fromkeys(grouping for record in records for grouping in record.groups):
        table = found[grouping] = {}
        for record in records:
            for name, measures in record.groups.get(grouping, {"": record.totals}).items():
                table.setdefault(name, Measures()).merge(measures)
    return found


def _verdict(records: Sequence[RunRecord], header: RunHeader) -> RunVerdict:
    """Valid if each part is: a host that was late is not outweighed by others."""
    reasons, warnings = [], []
    for record in records:
        (host,) = record.header.hosts
        here = f"{host.name}, part {host.part}"
        reasons += [f"{here}: {reason}" for reason in record.verdict.reasons]
        warnings += [f"{here}: {warning}" for warning in record.verdict.warnings]
        if record.header.measured_s < header.measured_s:
            only = f"{record.header.measured_s:g} s of {header.measured_s:g} s were measured"
            warnings.append(f"{here}: only {only}: rates of the whole are too low by what it did not send")
        if host.clock_error_s is None:
            warnings.append(f"{here}: its clock is not known to be synchronised: its requests may be of other seconds")
        elif host.clock_error_s > _CLOCK_BOUND_S:
            warnings.append(f"{here}: its clock may be off by {host.clock_error_s:.2g} s, and so may its seconds")
    begun = [host.begun_at for host in header.hosts]
    if max(begun) - min(begun) > _CLOCK_BOUND_S:
        apart = f"{max(begun) - min(begun):.1f} s apart, each by its own clock"
        reasons.append(f"the hosts began {apart}: give all the same --start-at")
    return RunVerdict(
        all(record.verdict.valid for record in records) and not reasons,
        tuple(reasons),
        any(record.verdict.cut_short for record in records),
        tuple(dict.fromkeys(warnings)),
    )
