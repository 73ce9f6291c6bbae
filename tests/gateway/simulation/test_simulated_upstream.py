"""Upstreams in a simulation have the stated times and the policy's limit on concurrent requests, as the notes say."""

from pathlib import Path

import msgspec
import pytest

from config.load import parse_settings
from config.model.settings import Settings
from gateway.profiling.profile import BadProfile, Profile, UpstreamProfile
from gateway.simulation.compare import simulate
from gateway.simulation.report import Comparison
from policies.records.trace import TraceRequest
from tests.gateway.simulation.worlds import profile

POLICY = """\
schema = 1
[upstreams.cloud]
urls = ["https://a.example/v1"]
concurrent = {concurrent}
[models.chat]
[prices]
cloud = {{ input = 1.0, output = 2.0 }}
[tiers.default]
slo = {{ ttft = "1s", itl = "50ms" }}
queue = {{ wait = "20s" }}
[[routes]]
name = "all"
use.ladder = "l"
[ladders]
l = [{{ to = "cloud" }}]
"""
TIMES = UpstreamProfile(ttft_s=0.6, itl_s=0.02)


def upstream_only(concurrent: int = 8) -> Settings:
    return parse_settings(POLICY.format(concurrent=concurrent), Path("/x.toml"))


def times(**upstreams: UpstreamProfile) -> Profile:
    return msgspec.structs.replace(profile(), upstreams=upstreams)


def played(settings: Settings, measured: Profile, requests: int = 20, every: float = 2.0) -> Comparison:
    trace = tuple(
        [TraceRequest(at=every * number, prompt_tokens=300 + number, output_tokens=50) for number in range(requests)]
    )
    return simulate(
        {"p": settings}, measured, trace, trace_name="t", profile_name="p", seed=0, speed=1, shares={},
        progress=lambda _line: None,
    )  # fmt: skip


def test_a_policy_of_upstreams_takes_the_stated_times() -> None:
    compared = played(upstream_only(), times(cloud=TIMES))
    (report,) = compared.reports
    assert report.answered == 20
    assert report.rungs == {"cloud": 1.0}
    assert report.ttft_s.p50 == pytest.approx(0.6, rel=0.1)
    assert report.itl_s.p50 == pytest.approx(0.02, rel=0.05)
    assert report.cost == pytest.approx(sum(300 + n + 100 for n in range(20)) / 1e6)
    assert any(
        "upstream 'cloud' takes 0.6 s to the first token and 0.02 s between two" in each for each in compared.notes
    )


def test_no_more_at_once_than_concurrent() -> None:
    wide = played(upstream_only(8), times(cloud=TIMES), every=0.05).reports[0]
    narrow = played(upstream_only(1), times(cloud=TIMES), every=0.05).reports[0]
    assert wide.ttft_s.p50 is not None
    assert narrow.ttft_s.p50 is not None
    assert narrow.ttft_s.p50 > 5 * wide.ttft_s.p50


def test_without_times_it_says_what_to_give() -> None:
    with pytest.raises(BadProfile, match="--upstream cloud=TTFT,ITL"):
        played(upstream_only(), times())
