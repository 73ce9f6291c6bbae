"""A run's result is not lost for a path that cannot be written."""

from pathlib import Path

import pytest

from gateway.cli.load.result_files import check_folder, check_results, write_result
from gateway.cli.main import main
from gateway.errors import CliError
from loadtests.model.record_file import encode_record
from tests.loadtests.running.test_merged_record import REQUESTS, part
from tests.loadtests.synthetic_runs import even_run
from tests.loadtests.threaded_server import ThreadedServer

COMMANDS = [
    "run --rate 20 --for 0.3s --out",
    "sweep --slo ttft=1s --rate 20 --for 0.3s --out",
    "sweep --slo ttft=1s --rate 20 --for 0.3s --html",
    "compare --rate 20 --for 0.3s --html",
    "compare --rate 20 --for 0.3s --keep",
]


@pytest.mark.parametrize("place", ["none/x", "file/x"])
@pytest.mark.parametrize("words", COMMANDS)
def test_nothing_is_asked_if_the_result_cannot_be_written(words: str, place: str, tmp_path, capsys) -> None:
    (tmp_path / "file").write_text("kept")
    if words.endswith("--keep"):
        place = "file/x"
    with ThreadedServer() as server:
        url = f"--a {server.url} --b {server.url}" if words.startswith("compare") else f"--url {server.url}"
        assert main(["load", *words.split(), str(tmp_path / place), *url.split()]) == 2
        assert not server.asked
    assert "cannot be" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_looking_changes_nothing(tmp_path) -> None:
    (tmp_path / "old").write_text("kept")
    check_results(tmp_path / "old", tmp_path / "new", None)
    check_folder(tmp_path / "a" / "b")
    check_folder(None)
    assert (tmp_path / "old").read_text() == "kept"
    assert not (tmp_path / "new").exists()
    assert not list((tmp_path / "a" / "b").iterdir())
    with pytest.raises(CliError, match="cannot be written"):
        check_results(tmp_path)


def full(tmp_path: Path, words: str) -> list[str]:
    """A command whose result goes to a full disk."""
    (tmp_path / "a.json").write_bytes(encode_record(even_run()))
    for place in (1, 2):
        (tmp_path / f"{place}.json").write_bytes(encode_record(part(place, REQUESTS[place - 1 :: 2])))
    return [str(tmp_path / word) if word.endswith(".json") else word for word in words.split()]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("run --rate 20 --for 0.3s --out", "latencies of whole answers"),
        ("sweep --slo ttft=60s --rate 20 --most-rate 20.1 --for 0.3s --out", "runs, in their order"),
        ("merge 1.json 2.json --out", "latencies of whole answers"),
        ("compare a.json a.json --html", "No difference seen"),
    ],
)
def test_a_full_disk_does_not_take_the_figures(words: str, shown: str, tmp_path, capsys) -> None:
    with ThreadedServer() as server:
        given = [*full(tmp_path, words), "/dev/full"]
        if words.startswith(("run", "sweep")):
            given += ["--url", server.url]
        assert main(["load", *given]) in {1, 3}
    said = capsys.readouterr()
    assert shown in said.out
    assert "not written: /dev/full cannot be written: No space left" in said.err


def test_what_was_written_is_said(tmp_path, capsys) -> None:
    assert write_result(None, lambda: b"", "")
    assert write_result(tmp_path / "x", lambda: b"text", "it is in x")
    assert not write_result(tmp_path / "y" / "x", lambda: b"text", "it is in x")
    said = capsys.readouterr().err
    assert said.startswith("it is in x\nnot written: ")
