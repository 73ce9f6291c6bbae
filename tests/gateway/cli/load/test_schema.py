"""What the commands write is what their schemas say."""

import json

import jsonschema
import msgspec
import pytest

from gateway.cli.main import main
from loadtests.comparing.comparison import compare_runs
from loadtests.comparing.condition import parse_condition
from loadtests.model.record_file import encode_record
from loadtests.model.run_record import FaultRecord
from loadtests.sweeping.sweep_record import encode_sweep
from tests.loadtests.report.test_sweep_page import a_sweep
from tests.loadtests.synthetic_runs import even_run

RUN = msgspec.structs.replace(even_run(), faults=(FaultRecord("f", "stall", 1.0, 2.0),))


@pytest.mark.parametrize(
    ("flag", "written"),
    [
        ("--record", encode_record(RUN)),
        ("--sweep", encode_sweep(a_sweep())),
        ("--comparison", msgspec.json.encode(compare_runs([RUN], [RUN], [parse_condition("ttft_p50>+1%")]))),
    ],
    ids=["record", "sweep", "comparison"],
)
def test_schemas(flag: str, written: bytes, capsys) -> None:
    assert main(["load", "schema", flag]) == 0
    schema = json.loads(capsys.readouterr().out)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(json.loads(written))
    assert not validator.is_valid({})
