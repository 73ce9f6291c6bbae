"""`penstock load replay` as a person gives it."""

import json

import pytest

from gateway.cli.load.run import INVALID
from gateway.cli.main import main
from loadtests.model.record_file import read_record
from tests.loadtests.threaded_server import ThreadedServer

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:15:{46 + n / 2:09.6f},{20 + n},{3 + n}\n" for n in range(6)
)
MOONCAKE = "".join(
    json.dumps({"timestamp": 200 * n, "input_length": 600, "output_length": 4, "hash_ids": [0, n]}) + "\n"
    for n in range(4)
)
RECORDING = '{"penstock_trace": 1, "started": 1000.0, "prefix_block": 16}\n' + "".join(
    json.dumps({"at": 0.2 * n, "prompt_tokens": 33, "output_tokens": 5, "prefix": [7, 8]}) + "\n" for n in range(3)
)


@pytest.fixture
def server():
    with ThreadedServer() as server:
        yield server


@pytest.mark.parametrize(
    ("trace", "flags", "lengths"),
    [
        (AZURE, ["--speed", "5"], ([20, 21, 22, 23, 24, 25], [3, 4, 5, 6, 7, 8])),
        (AZURE, ["--speed", "5", "--for", "0.25s"], ([20, 21, 22], [3, 4, 5])),
        (MOONCAKE, ["--speed", "4", "--longest-output", "3"], ([600] * 4, [3] * 4)),
        (MOONCAKE, ["--speed", "4", "--longest-prompt", "40"], ([40] * 4, [4] * 4)),
        (RECORDING, [], ([33] * 3, [5] * 3)),
    ],
    ids=["azure", "clipped", "mooncake", "cut", "recording"],
)
def test_lengths_are_the_trace_s(server, tmp_path, trace, flags: list[str], lengths) -> None:
    prompts, outputs = lengths
    path, out = tmp_path / "trace", tmp_path / "run.json"
    path.write_text(trace)
    words = ["load", "replay", str(path), "--url", server.url, "--warm-up", "0s", "--out", str(out), *flags]
    assert main(words) in {0, INVALID}
    bodies = [each["body"] for each in server.asked]
    texts = [body["messages"][0]["content"].split(" ") for body in bodies]
    assert sorted(map(len, texts)) == prompts
    assert sorted(body["max_tokens"] for body in bodies) == outputs
    if trace is not AZURE:
        shared = min(len(texts[0]), 32 if trace is RECORDING else 512)
        assert len({tuple(text[:shared]) for text in texts}) == 1
    record = read_record(out)
    assert record.header.scenario.arrivals.kind == "trace"
    assert record.totals.requests == len(prompts)
    if trace is AZURE:
        assert [round(row.intended_s, 3) for row in record.rows] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5][: len(prompts)]


def test_a_scenario_may_name_a_trace(server, tmp_path) -> None:
    (tmp_path / "trace").write_text(AZURE)
    scenario = tmp_path / "s.toml"
    scenario.write_text(
        f'schema = 1\nduration = "1s"\nwarm_up = "0s"\n[target]\nurl = "{server.url}"\n'
        '[arrivals]\nkind = "trace"\ntrace = "trace"\nspeed = 10\n[[mix]]\ntransport = "whole"\n'
    )
    assert main(["load", "run", str(scenario), "--workers", "2"]) in {0, INVALID}
    assert len(server.asked) == 6
    assert not any(each["body"].get("stream") for each in server.asked)


def test_every_bad_line_is_named(tmp_path, capsys) -> None:
    path = tmp_path / "trace"
    path.write_text(AZURE + "x,1,2\n2023-11-16 18:15:50,0,1\n")
    assert main(["load", "replay", str(path)]) == 2
    said = capsys.readouterr().err
    assert f"{path}:8: 'x,1,2' is no row" in said
    assert f"{path}:9: prompt tokens 0" in said


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["none"], "none cannot be read"),
        (["trace", "--rate", "3"], "--rate cannot be combined with a trace"),
        (["trace", "--clients", "3"], "--clients cannot be combined with a trace"),
        (["trace", "--speed", "0"], "--speed must be above 0"),
        (["trace", "--speed", "nan"], "--speed must be above 0"),
        (["trace", "--longest-prompt", "0"], "--longest-prompt must be at least 1"),
    ],
)
def test_wrong_flags_say_what_to_do(flags: list[str], words: str, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trace").write_text(AZURE)
    assert main(["load", "replay", *flags]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('kind = "trace"', "there is no trace"),
        ('kind = "trace"\ntrace = "t"\nrate = 3', "a trace has its own times, and no 'rate'"),
        ('kind = "trace"\ntrace = "t"\nphases = [{ lasts = "1s", rate = 3 }]', "no phases"),
        ('rate = 3\ntrace = "t"', 'a trace makes arrivals of kind = "trace"'),
    ],
)
def test_wrong_scenarios_say_what_to_do(lines: str, words: str, tmp_path, capsys) -> None:
    path = tmp_path / "s.toml"
    path.write_text(f"schema = 1\n[arrivals]\n{lines}\n")
    assert main(["load", "check", str(path)]) == 2
    assert words in capsys.readouterr().err
