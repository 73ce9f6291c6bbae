"""Recorded traffic: three formats, one kind of request, and errors that name the line."""

from pathlib import Path

import pytest

from config.load import load_settings
from config.profiles import embedded_profile
from policies.records.trace import BadTrace, TraceRequest, read_trace, trace_features

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:46.6805900,374,44
"""
MOONCAKE = """{"timestamp": 500, "input_length": 1500, "output_length": 7, "hash_ids": [0, 1, 2]}
{"timestamp": 0, "input_length": 600, "output_length": 0, "hash_ids": [0, 5]}
"""
PENSTOCK = """{"penstock_trace": 1, "started": 1000.0, "prefix_block": 16}
{"at": 2.5, "prompt_tokens": 40, "output_tokens": 3, "tenant": "acme", "margins": [2.0, 0.25]}

{"at": 2.0, "prompt_tokens": 33, "output_tokens": 9, "prefix": [7, 8], "complexity": 0.5, "has": ["stream"]}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "trace"
    path.write_text(text)
    return path


def test_azure_is_sorted_and_counted_from_the_first_arrival(tmp_path: Path) -> None:
    first, second = read_trace(written(tmp_path, AZURE))
    assert (first.at, first.prompt_tokens, first.output_tokens) == (0.0, 374, 44)
    assert second.at == pytest.approx(4.314579, abs=1e-6)
    assert first.wall_at == pytest.approx(1700158546.68059)


def test_mooncake_traces_have_prefixes(tmp_path: Path) -> None:
    first, second = read_trace(written(tmp_path, MOONCAKE))
    assert (first.at, second.at) == (0.0, 0.5)
    assert first.prefix[0] == second.prefix[0]
    assert first.prefix_block == 512
    assert first.output_tokens == 1  # the minimum that an engine generates


def test_a_penstock_recording(tmp_path: Path) -> None:
    first, second = read_trace(written(tmp_path, PENSTOCK))
    assert (first.at, second.at) == (0.0, 0.5)
    assert (first.wall_at, second.wall_at) == (1002.0, 1002.5)
    assert (first.prefix, first.prefix_block, second.prefix_block) == ((7, 8), 16, 0)
    assert second.margins == (2.0, 0.25)
    assert second.tenant == "acme"


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("", ":1: this is no trace"),
        ("a,b,c\n", ":1: this is no trace"),
        ("{nonsense\n", ":1: this is no trace"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "holds no request"),
        (AZURE + "2023-11-16,many,1\n", ":4: '2023-11-16,many,1' is no row"),
        (AZURE + "2023-11-16 18:15:50,3\n", ":4:"),
        (AZURE + "2023-11-16 18:15:50,0,3\n", ":4: prompt tokens 0: expected at least 1"),
        (MOONCAKE + '{"timestamp": 1}\n', ":3: Object missing required field `input_length`"),
        (PENSTOCK + '{"at": 1, "prompt_tokens": 3, "output_tokens": 3, "tonnant": "acme"}\n', ":5: Object contains"),
        (PENSTOCK + '{"at": -1, "prompt_tokens": 3, "output_tokens": 3}\n', ":5: arrives -1"),
        (PENSTOCK + '{"at": 1, "prompt_tok\n', ":5: Input data was truncated"),
        ('{"penstock_trace": 2, "started": 0}\n', ":1: Invalid enum value 2"),
    ],
)
def test_faults_name_their_line(tmp_path: Path, text: str, fragment: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(BadTrace) as caught:
        read_trace(path)
    assert str(caught.value).startswith(str(path))
    assert fragment in str(caught.value)


def test_every_bad_line_is_named_up_to_a_number(tmp_path: Path) -> None:
    path = written(tmp_path, AZURE + "one,2,3\n\n2023-11-16 18:15:50,0,3\n2023-11-16 18:15:51,1,3\ntwo\n")
    with pytest.raises(BadTrace) as caught:
        read_trace(path)
    places = [line.removeprefix(f"{path}:").split(":")[0] for line in str(caught.value).splitlines()]
    assert places == ["4", "6", "8"]
    path = written(tmp_path, AZURE + "no\n" * 500)
    with pytest.raises(BadTrace) as caught:
        read_trace(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert "there may be more" in lines[-1]


@pytest.mark.parametrize(
    ("end", "requests"), [('{"at": 1, "prompt_tok', 2), ('{"at": 1, "prompt_tokens": 3, "output_tokens": 3}', 3)]
)
def test_an_unfinished_recording_is_read_as_far_as_it_goes(tmp_path: Path, end: str, requests: int) -> None:
    assert len(read_trace(written(tmp_path, PENSTOCK + end))) == requests


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadTrace, match="cannot be read: No such file"):
        read_trace(tmp_path / "nothing")


def test_missing_features_default_to_the_policys_first() -> None:
    settings = load_settings(embedded_profile())
    features = trace_features(TraceRequest(at=0, prompt_tokens=5, output_tokens=2, tags=("vip",)), settings, 3)
    assert (features.model, features.tenant, features.tier) == ("penstock", "anonymous", "default")
    assert features.tags == {"vip"}
    assert features.request == "trace-3"


@pytest.mark.parametrize("wrong", [{"tenant": "acme"}, {"model": "gpt"}, {"tier": "gold"}])
def test_a_name_that_the_policy_does_not_have(wrong: dict[str, str]) -> None:
    settings = load_settings(embedded_profile())
    with pytest.raises(BadTrace, match=next(iter(wrong.values()))):
        trace_features(TraceRequest(at=0, prompt_tokens=5, output_tokens=2, **wrong), settings)
