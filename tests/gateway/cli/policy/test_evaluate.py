"""`penstock policy calibrate` and `penstock policy eval` on the embedded pair, and what they say to bad input."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from config.model.calibration import read_calibration
from config.profiles import embedded_profile
from gateway.cli.main import main
from gateway.evaluation.cascade_run import CascadeOutcomes
from policies.cascade.calibration import threshold_for_share
from policies.cascade.statistic import statistic_of

CALIBRATE, EVAL = ("policy", "calibrate"), ("policy", "eval")


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calibration") / "embedded.json"
    assert (
        main([*CALIBRATE, "--embedded", "160", "--seed", "3", "--statistic", "joint_margin", "--out", str(path)]) == 0
    )
    return path


@pytest.fixture(scope="module")
def evaluated(artefact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    asked = ["--embedded", "120", "--seed", "4", "--resamples", "50", "--rounds", "1"]
    asked += ["--calibration", str(artefact)]
    kept = ["--save", str(folder / "outcomes.json"), "--plot", str(folder / "plot.svg")]
    assert main([*EVAL, *asked, *kept]) == 0
    return folder


def complaint(capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> str:
    assert main(arguments) == status
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_the_artefact_says_what_it_was_made_of(artefact: Path) -> None:
    found = read_calibration(artefact)
    assert (found.statistic, found.small, found.large, found.labels) == ("joint_margin", "small", "large", "labelled")
    assert (found.data.prompts, found.data.source) == (160, "160 held-out zoo questions, seed 3")
    assert len({found.small_digest, found.large_digest, found.data.sha256}) == 3
    assert 0.3 < found.small_accuracy < found.large_accuracy


def test_progress_and_summary(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "c.json"
    assert main([*CALIBRATE, "--embedded", "20", "--out", str(out), "--json"]) == 0
    said = capsys.readouterr()
    assert "small: 20/20 prompts" in said.err
    assert "large: 20/20 prompts" in said.err
    assert json.loads(said.out) == json.loads(out.read_text())


def test_the_first_calibration_is_made_by_the_policy_that_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = embedded_profile().read_text().replace("../../engine", str(embedded_profile().parents[2] / "engine"))
    config, out = tmp_path / "policy.toml", tmp_path / "calibration.json"
    config.write_text(text.replace("calibrations/embedded.json", "calibration.json"))
    assert "make it with `penstock policy calibrate`" in complaint(capsys, 2, "policy", "check", str(config))
    assert main([*CALIBRATE, "--config", str(config), "--embedded", "40", "--out", str(out)]) == 0
    assert read_calibration(out).statistic == "joint_margin"
    assert main(["policy", "check", str(config)]) == 0


def test_agreement_needs_no_answers(tmp_path: Path) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "c.json"
    lines = [{"prompt": f"What is {n} + {n + 1}?"} for n in range(12)]
    prompts.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    assert main([*CALIBRATE, "--prompts", str(prompts), "--out", str(out)]) == 0
    found = read_calibration(out)
    assert (found.labels, found.large_accuracy, found.data.prompts) == ("agreement", 1.0, 12)


def test_the_evaluation_tells_what_became_of_the_promises(
    evaluated: Path, artefact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--outcomes", str(evaluated / "outcomes.json"), "--calibration", str(artefact), "--resamples", "50"]
    assert main([*EVAL, *asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    outcomes = msgspec.json.decode((evaluated / "outcomes.json").read_bytes(), type=CascadeOutcomes)
    threshold = threshold_for_share(read_calibration(artefact), 0.25)
    sent = [statistic_of("joint_margin", each.margins) < threshold for each in outcomes.judged]
    right = [each.large_right if s else each.small_right for each, s in zip(outcomes.judged, sent, strict=True)]
    point = next(each for each in found["points"] if each["target"] == "large_share = 0.25")
    assert point["large_share"] == sum(sent) / 120
    assert point["accuracy"] == sum(right) / 120
    assert point["saved"] is None, "nothing was measured"
    assert [curve["name"] for curve in found["curves"]["curves"]] == [
        "joint_margin", "min_margin", "low_quantile", "length", "chance", "oracle",
    ]  # fmt: skip
    assert main([*EVAL, *asked]) == 0
    assert "large_share = 0.25" in capsys.readouterr().out
    assert main([*EVAL, *asked, "--share", "0.3", "--share", "0.4"]) == 0
    out = capsys.readouterr().out
    assert "large_share = 0.3 " in out
    assert "large_share = 0.25" not in out
    assert "from 0 to 1" in complaint(capsys, 2, *EVAL, *asked, "--share", "30")


def test_compute_is_measured_when_it_asks(artefact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--embedded", "40", "--resamples", "5", "--rounds", "2", "--calibration", str(artefact)]
    assert main([*EVAL, *asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    saved = [point["saved"] for point in found["points"]]
    assert all(part is not None and part < 1 for part in saved)
    assert saved[0] > saved[2], "half to the large model costs more than a tenth"
    assert found["outcomes"]["small_cost"]["processor_s"] > 0


def test_the_plot_is_an_svg(evaluated: Path) -> None:
    assert (evaluated / "plot.svg").read_text().startswith("<svg")


@pytest.mark.parametrize("command", [(*CALIBRATE, "--out", "never.json"), EVAL])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "either --prompts FILE or --embedded N"),
        (("--prompts", "a", "--embedded", "5"), "either --prompts FILE or --embedded N"),
        (("--embedded", "0"), "--embedded must be at least 1"),
        (("--embedded", "5", "--max-tokens", "0"), "--max-tokens must be at least 1"),
        (("--embedded", "5", "--cascade", "none"), "has no cascade 'none'; it has: thrifty"),
    ],
)
def test_what_cannot_be_meant(
    capsys: pytest.CaptureFixture[str], command: tuple[str, ...], arguments: tuple[str, ...], said: str
) -> None:
    assert said in complaint(capsys, 2, *command, *arguments)


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        (None, 1, "cannot be read: No such file"),
        ("", 2, "contains no prompts"),
        ('{"prompt": "a"}\n{"promt": "b"}', 2, ':2: expected {"prompt"'),
        ("[1", 2, ":1: expected"),
    ],
)
def test_prompts_that_cannot_be_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str | None, status: int, said: str
) -> None:
    path = tmp_path / "prompts.jsonl"
    if text is not None:
        path.write_text(text)
    assert said in complaint(capsys, status, *EVAL, "--prompts", str(path))


def test_labelled_takes_answers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a", "answer": "b"}\n{"prompt": "a"}\n')
    said = complaint(capsys, 2, *EVAL, "--prompts", str(path), "--labels", "labelled")
    assert "prompt 2 has no answer" in said


def test_too_few_prompts_and_too_long_ones(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = complaint(capsys, 2, *CALIBRATE, "--embedded", "4", "--out", str(tmp_path / "c.json"))
    assert "4 prompts are too few to calibrate on: at least 10" in said
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"prompt": "x " * 5000}))
    assert "prompt 1 cannot be asked of 'small'" in complaint(capsys, 1, *EVAL, "--prompts", str(path))


def test_files_that_are_not_there_or_wrong(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    gone, wrong = str(tmp_path / "gone.json"), tmp_path / "wrong.json"
    wrong.write_text("{}")
    assert "cannot be read" in complaint(capsys, 1, *EVAL, "--embedded", "5", "--calibration", gone)
    assert "cannot be read" in complaint(capsys, 1, *EVAL, "--outcomes", gone)
    assert "contains no outcomes" in complaint(capsys, 2, *EVAL, "--outcomes", str(wrong))
    out = str(tmp_path / "no" / "c.json")
    said = complaint(capsys, 1, *CALIBRATE, "--embedded", "10", "--out", out)
    assert "cannot be written" in said
    assert len(said.splitlines()) == 1, "it was tried before the models ran"


def test_a_stage_that_is_no_engine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = embedded_profile().read_text().replace("../../engine", str(embedded_profile().parents[2] / "engine"))
    text = re.sub(r"(?m)^(target|defer) = .*$", "", text).replace(
        "[cascades.thrifty]", "[cascades.thrifty]\ndefer = { threshold = 1 }"
    )
    upstream = '[upstreams.far]\nurls = ["http://127.0.0.1:9/v1"]\n\n[cascades.thrifty]'
    path = tmp_path / "config.toml"
    path.write_text(
        text.replace('stages = ["small", "large"]', 'stages = ["small", "far"]').replace("[cascades.thrifty]", upstream)
    )
    said = complaint(capsys, 2, *EVAL, "--config", str(path), "--embedded", "5")
    assert "stage 'far', which is not an engine" in said
