"""`penstock load compare` as a person gives it."""

import json

import msgspec
import pytest

from gateway.cli.load.run import INVALID
from gateway.cli.main import main
from gateway.errors import CliError
from loadtests.model.record_file import encode_record
from loadtests.model.run_record import RunVerdict
from tests.loadtests.synthetic_runs import even_run
from tests.loadtests.threaded_server import ThreadedServer


@pytest.fixture
def records(tmp_path):
    (tmp_path / "a.json").write_bytes(encode_record(even_run()))
    (tmp_path / "slow.json").write_bytes(encode_record(even_run(ttft=0.2)))
    late = msgspec.structs.replace(even_run(), verdict=RunVerdict(False, ("it was late",)))
    (tmp_path / "late.json").write_bytes(encode_record(late))
    empty = even_run()
    header = msgspec.structs.replace(empty.header, measured_s=0.0)
    (tmp_path / "empty.json").write_bytes(encode_record(msgspec.structs.replace(empty, header=header)))
    return tmp_path


@pytest.mark.parametrize(
    ("b", "flags", "ended"),
    [
        ("a", [], (0, "No difference seen")),
        ("a", ["--fail-on", "ttft_p50>+10%"], (0, "kept: ttft_p50>+10%")),
        ("slow", [], (0, "B is worse in ttft_p50")),
        ("slow", ["--fail-on", "ttft_p50>+10%", "--fail-on", "goodput<-5%"], (1, "broken: ttft_p50>+10%")),
        ("slow", ["--fail-on", "ttft_p999>+10%"], (0, "unknown: ttft_p999>+10%: too few values")),
        ("slow", ["--fail-on", "ttft_p999>+10%", "--strict"], (1, "unknown: ttft_p999>+10%")),
        ("late", ["--fail-on", "ttft_p50>+10%"], (INVALID, "NOT VALID")),
    ],
)
def test_exit_codes_and_words(records, b: str, flags: list[str], ended: tuple[int, str], capsys) -> None:
    status, words = ended
    assert main(["load", "compare", str(records / "a.json"), str(records / f"{b}.json"), *flags]) == status
    assert words in capsys.readouterr().out


def test_json_and_html(records, capsys) -> None:
    files = [str(records / "a.json"), str(records / "slow.json")]
    assert main(["load", "compare", *files, "--json", "--html", str(records / "c.html")]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert (compared["format"], compared["version"]) == ("penstock-load-comparison", 1)
    assert next(each for each in compared["measures"] if each["name"] == "ttft_p50")["verdict"] == "worse"
    assert "B is worse in ttft_p50" in (records / "c.html").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("a.json", "two run records are compared"),
        ("a.json a.json a.json", "two run records are compared"),
        ("a.json none.json", "cannot be read"),
        ("a.json empty.json", "nothing was measured"),
        ("a.json a.json --fail-on ttft>1", "is no condition"),
        ("a.json a.json --fail-on tftt_p99>+1%", "there is no measure 'tftt_p99'"),
        ("--a http://127.0.0.1:1", "give both"),
        ("--a http://127.0.0.1:1 --b http://127.0.0.1:2 --url http://127.0.0.1:3", "--url is given by --a and --b"),
        ("--a http://127.0.0.1:1 --b http://127.0.0.1:2 --repeats 0", "--repeats must be from 1 to 20"),
        ("--a http://127.0.0.1:1 --b http://127.0.0.1:2 x.toml y.toml", "at most one scenario"),
    ],
)
def test_wrong_usage_says_what_to_do(records, words: str, says: str, capsys) -> None:
    given = [str(records / word) if word.endswith(".json") else word for word in words.split()]
    assert main(["load", "compare", *given]) == 2
    assert says in capsys.readouterr().err


def test_two_servers_take_turns(tmp_path, capsys) -> None:
    with ThreadedServer() as a, ThreadedServer() as b:
        words = (
            f"--a {a.url} --b {b.url} --repeats 2 --rate 20 --arrivals constant --for 0.5s --keep {tmp_path / 'runs'}"
        )
        status = main(["load", "compare", *words.split()])
    said = capsys.readouterr()
    assert status in {0, INVALID}
    assert [line.split(": ")[1][:1] for line in said.err.splitlines() if line.startswith("run ")] == list("ABBA")
    assert len(a.asked) == len(b.asked) == 20
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["a1.json", "a2.json", "b1.json", "b2.json"]
    texts = [[each["body"]["messages"] for each in server.asked] for server in (a, b)]
    assert sorted(map(str, texts[0])) == sorted(map(str, texts[1]))


def test_both_servers_must_be_there_before_either_is_asked(capsys) -> None:
    with ThreadedServer() as server:
        words = f"--a {server.url} --b http://127.0.0.1:1 --rate 20 --for 0.3s"
        assert main(["load", "compare", *words.split()]) == 1
        assert not server.asked
    assert "no server at http://127.0.0.1:1" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "status"), [(CliError("no server"), 1), (KeyboardInterrupt(), 130)])
def test_a_run_that_could_not_be_made_does_not_take_the_others(error, status: int, monkeypatch, capsys) -> None:
    made = iter([even_run(), even_run(), even_run(), error])

    async def carry_out(scenario, keys):
        record = next(made)
        if isinstance(record, BaseException):
            raise record
        return record

    monkeypatch.setattr("gateway.cli.load.compare.carry_out", carry_out)
    with ThreadedServer() as server:
        words = f"--a {server.url} --b {server.url} --repeats 2"
        assert main(["load", "compare", *words.split()]) == status
    said = capsys.readouterr()
    assert "No difference seen" in said.out
    assert "compared are the first 1 runs of each" in said.err
