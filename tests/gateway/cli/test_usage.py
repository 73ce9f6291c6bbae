"""`penstock usage`: its three forms, and what it says to wrong words."""

import csv
import io
import json
from pathlib import Path

import pytest

from actors.ledger.store import LedgerBatch, Store
from gateway.cli.main import main
from tests.actors.ledger.test_usage_report import closes, opens

STRANGE = "b\x1b[2J,ob"


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = tmp_path / "ledger.sqlite3"
    store = Store(path, "life")
    store.commit(LedgerBatch((opens(1), opens(2, STRANGE))))
    store.commit(LedgerBatch((closes(1), closes(2, STRANGE))))
    store.close()
    return str(path)


def test_a_table_with_a_total(capsys: pytest.CaptureFixture[str], path: str) -> None:
    assert main(["usage", "--ledger", path, "--by", "tenant, day"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].split() == ["tenant", "day", "requests", "running", "prompt", "completion", "discarded", "cost"]
    assert lines[1].split()[2:] == ["1", "0", "10", "4", "1", "0.2500"]
    assert lines[-1].split() == ["total", "2", "0", "20", "8", "2", "0.5000"]
    assert "\x1b" not in out


def test_csv_and_json_hold_the_same(capsys: pytest.CaptureFixture[str], path: str) -> None:
    assert main(["usage", "--ledger", path, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert main(["usage", "--ledger", path, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["tenant"] for row in rows] == ["alice", STRANGE]
    assert [{name: str(value) for name, value in row.items()} for row in found] == rows
    assert rows[0]["completion_tokens"] == "4"


def test_the_ledger_of_a_configuration(
    capsys: pytest.CaptureFixture[str], path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "penstock.toml"
    text = 'schema = 1\n[engines.a]\nmodel = "m"\n[models.a]\n[[routes]]\nname = "r"\nuse = { ladder = "l" }\n'
    text += '[[ladders.l]]\nto = "a"\n'
    config.write_text(text + f"[ledger]\npath = {json.dumps(Path(path).name)}\n")
    assert main(["usage", "--config", str(config), "--since", "7d"]) == 0
    assert "alice" in capsys.readouterr().out
    config.write_text(text + '[ledger]\npath = ":memory:"\n')
    assert main(["usage", "--config", str(config)]) == 2
    assert "in memory only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--by", "tennant"], 2, "tenant, model"),
        (["--by", "tenant,tenant"], 2, "each once"),
        (["--since", "yesterday"], 2, "such as 7d"),
        (["--until", "2026-13x"], 2, "such as 7d"),
        (["--until", "2026-13"], 2, "such as 7d"),
        (["--since", "2026-02-30T08Z"], 2, "such as 7d"),
        (["--since", "99999999d"], 2, "such as 7d"),
        (["--ledger", "/nowhere/x"], 1, "there is no file /nowhere/x"),
        (["--ledger", "/"], 1, "there is no file /"),
    ],
)
def test_wrong_words(capsys: pytest.CaptureFixture[str], path: str, words: list[str], status: int, said: str) -> None:
    given = words if "--ledger" in words else ["--ledger", path, *words]
    assert main(["usage", *given]) == status
    assert said in capsys.readouterr().err


def test_nothing_in_that_time(capsys: pytest.CaptureFixture[str], path: str) -> None:
    assert main(["usage", "--ledger", path, "--until", "2020"]) == 0
    assert capsys.readouterr().out == "no requests\n"
