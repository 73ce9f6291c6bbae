import json

import jsonschema
import msgspec
import pytest

from config.model.table import Seconds
from loadtests.model.errors import RecordError
from loadtests.model.record_file import decode_record, encode_record, read_record, record_schema
from loadtests.model.run_record import (
    GeneratorLag,
    Latencies,
    Measures,
    RequestRow,
    RunHeader,
    RunMachine,
    RunRecord,
    RunVerdict,
    RunWindow,
)
from loadtests.model.scenario import Arrivals, LoadTarget, Scenario


def a_record(**changes) -> RunRecord:
    latencies = Latencies()
    latencies.ttft.add([0.1, 0.2])
    totals = Measures(requests=2, ok=2, output_tokens=9, latencies=latencies)
    scenario = Scenario(
        schema=1,
        duration=Seconds(2),
        arrivals=Arrivals(rate=1.0),
        target=LoadTarget(headers={"x-api-key": "abc", "x-team": "a"}),
    )
    record = RunRecord(
        header=RunHeader("0", "2026-01-01", scenario, RunMachine("m", "c", 1, "s", "p"), 0.2, "rule", 1.8),
        verdict=RunVerdict(),
        totals=totals,
        groups={"tenant": {"a": totals}},
        windows=(RunWindow(0.0, sent=2),),
        failures=(),
        lag=GeneratorLag(),
        fairness=None,
        rows=(RequestRow(0, "k", "ok", 0.1, 0.1, 0.4),),
        requests=2,
    )
    return msgspec.structs.replace(record, **changes)


def test_a_record_comes_back_without_its_secrets() -> None:
    raw = encode_record(a_record())
    assert b"abc" not in raw
    back = decode_record(raw, "run.json")
    assert back.totals == a_record().totals
    assert back.header.scenario.duration == 2.0
    assert back.header.scenario.target.headers["x-team"] == "a"
    assert encode_record(back) == raw


def test_a_record_is_what_its_schema_says() -> None:
    schema = record_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(encode_record(a_record())), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"format": "penstock-load-run"}, schema)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"{", "run.json is not a run record"),
        (b"{}", "penstock load run --out"),
        (b'{"format":"penstock-load-run","version":1}', "version 1"),
        (b'{"format":"penstock-load-run","version":2}', "damaged"),
    ],
)
def test_what_is_no_record_says_so(raw: bytes, words: str) -> None:
    with pytest.raises(RecordError, match=words):
        decode_record(raw, "run.json")


def test_a_file_that_is_not_there(tmp_path) -> None:
    with pytest.raises(RecordError, match="cannot be read"):
        read_record(tmp_path / "gone.json")


def test_measures_add_up() -> None:
    one, other = a_record().totals, a_record().totals
    one.merge(other)
    assert (one.requests, one.output_tokens, one.latencies.ttft.count) == (4, 18, 4)
