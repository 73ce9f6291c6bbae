"""`penstock policy simulate`: the table, JSON that is the same every time, the page, and what is said of bad input."""

from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from gateway.cli.main import main
from tests.paths import ROOT

ROOT = ROOT / "benchmarks/policies"
ARGUMENTS = ["--config", str(ROOT / "quarter.toml"), "--profile", str(ROOT / "assumed.json")]
TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    [f"2023-11-16 18:15:{second:02}.5000000,{100 + 37 * second},{5 + second}\n" for second in range(40)]
)


@pytest.fixture
def trace(tmp_path: Path) -> str:
    path = tmp_path / "azure.csv"
    path.write_text(TRACE)
    return str(path)


def simulate(*arguments: str) -> int:
    return main(["policy", "simulate", *arguments])


def test_two_policies_side_by_side(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not simulate(trace, *ARGUMENTS, "--against", str(ROOT / "large.toml"), "--escalate", "thrifty=0.25")
    said = capsys.readouterr()
    assert "40 requests over 39 s of azure.csv" in said.out
    assert "| answered" in said.out
    assert "40 of 40 (100.0 %)" in said.out
    assert "quarter" in said.err


def test_the_same_bytes_every_time(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    runs = []
    for seed in ("3", "3", "4"):
        assert not simulate(trace, *ARGUMENTS, "--escalate", "thrifty=0.5", "--json", "--seed", seed)
        runs.append(capsys.readouterr().out)
    assert runs[0] == runs[1] != runs[2]
    (report,) = msgspec.json.decode(runs[0])["reports"]
    assert report["answered"] == 40


def test_parts_of_a_trace_and_faster_ones(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not simulate(trace, *ARGUMENTS, "--escalate", "thrifty=0", "--seconds", "9.9", "--speed", "2")
    assert "10 requests over 4 s of azure.csv" in capsys.readouterr().out
    assert not simulate(trace, *ARGUMENTS, "--escalate", "thrifty=0", "--limit", "3", "--max-tokens", "7")
    assert "3 requests" in capsys.readouterr().out


def test_the_page_is_whole_and_needs_nothing_else(trace: str, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    arguments = ["--against", str(ROOT / "large.toml"), "--escalate", "thrifty=0.25", "--html", str(out)]
    assert not simulate(trace, *ARGUMENTS, *arguments)
    text = out.read_text()
    open_tags: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag != "meta":
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

        def handle_startendtag(self, tag: str, attrs: object) -> None:
            pass

    Tags().feed(text)
    assert open_tags == []
    assert text.count("<svg") == text.count("</svg>") == 8
    assert "nan," not in text
    assert "<script" not in text
    assert "://" not in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--escalate", "thrifty=2"], "expected CASCADE=SHARE"),
        ([], "cascade 'thrifty' has no calibration"),
        (["--escalate", "nope=0.5"], "there is no cascade 'nope'; the policies have: thrifty"),
        (["--escalate", "thrifty=0", "--profile", "/none.json"], "make it with `penstock engine profile`"),
        (["--escalate", "thrifty=0", "--html", "/none/page.html"], "cannot be written"),
    ],
)
def test_bad_input_is_reported(trace: str, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    assert simulate(trace, *ARGUMENTS, *arguments) in {1, 2}
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "flag",
    [
        *[f"--speed={value}" for value in ("0", "-1", "nan", "inf", "1e-300", "fast")],
        *[f"--limit={value}" for value in ("0", "-3", "1.5")],
        *[f"--seconds={value}" for value in ("0", "-1", "nan", "inf")],
        *[f"--max-tokens={value}" for value in ("0", "-4")],
        f"--seed={2**200}",
    ],
)
def test_a_number_out_of_range_is_refused(trace: str, capsys: pytest.CaptureFixture[str], flag: str) -> None:
    with pytest.raises(SystemExit) as ended:
        simulate(trace, *ARGUMENTS, "--escalate", "thrifty=0", flag)
    assert ended.value.code == 2
    assert flag.partition("=")[0] in capsys.readouterr().err


def test_the_page_is_tried_before_anything_is_simulated(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate(trace, *ARGUMENTS, "--escalate", "thrifty=0", "--html", "/none/page.html") == 1
    said = capsys.readouterr().err
    assert "cannot be written" in said
    assert "virtual clock" not in said


def test_a_trace_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trace"
    path.write_text("hello\n")
    assert simulate(str(path), *ARGUMENTS) == 2
    assert ":1: this is no trace" in capsys.readouterr().err
