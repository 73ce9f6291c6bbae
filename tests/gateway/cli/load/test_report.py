"""`penstock load report` as a person gives it."""

import pytest

from gateway.cli.main import main
from loadtests.model.record_file import encode_record
from loadtests.sweeping.sweep_record import encode_sweep
from tests.loadtests.report.test_sweep_page import a_sweep
from tests.loadtests.synthetic_runs import even_run


def test_a_run_and_a_sweep_become_pages(tmp_path, capsys) -> None:
    run, sweep = tmp_path / "run.json", tmp_path / "sweep.json"
    run.write_bytes(encode_record(even_run()))
    sweep.write_bytes(encode_sweep(a_sweep()))
    assert main(["load", "report", str(run)]) == 0
    assert "Valid: the load tester kept its times" in (tmp_path / "run.html").read_text()
    assert main(["load", "report", str(sweep), "-o", str(tmp_path / "s.html")]) == 0
    assert "Rate and goodput" in (tmp_path / "s.html").read_text()
    assert f"wrote {tmp_path / 's.html'}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file"),
        (b"{", "is not a record"),
        (b"{}", "is not a run record: penstock load run --out FILE writes one"),
        (b'{"format": "penstock-load-run", "version": 7}', "of version 7"),
        (b'{"format": "penstock-load-run", "version": 2}', "damaged run record"),
        (b'{"format": "penstock-load-sweep"}', "is not a sweep of this version, or is damaged"),
    ],
)
def test_what_is_no_record(content: bytes | None, words: str, tmp_path, capsys) -> None:
    path = tmp_path / "run.json"
    if content is not None:
        path.write_bytes(content)
    assert main(["load", "report", str(path)]) == 2
    assert words in capsys.readouterr().err


def test_the_record_is_not_overwritten(tmp_path, capsys) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(encode_record(even_run()))
    assert main(["load", "report", str(path), "--out", str(path)]) == 2
    assert "is the record itself" in capsys.readouterr().err
    assert main(["load", "report", str(path), "--out", str(tmp_path / "no" / "x.html")]) == 1
    assert "cannot be written" in capsys.readouterr().err
