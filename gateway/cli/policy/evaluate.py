"""`penstock policy eval`: a cascade's accuracy against chance, prompt length and an oracle, and its measured cost."""

import argparse
import math
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np

from config.model.calibration import BadCalibration, Calibration, Statistic, read_calibration
from engine.threads import prepare_environment
from gateway.cli.terminal import check_writable, say, write_file
from gateway.errors import CliError
from gateway.evaluation import cascade_run
from gateway.evaluation.cascade_run import CascadeOutcomes, CascadePair
from gateway.evaluation.plots import line_plot
from policies.authoring.deferral_curve import Curves, deferral_curves
from policies.cascade.calibration import threshold_for_accuracy, threshold_for_share
from policies.cascade.prompt_model import priors_of, score_of
from policies.cascade.statistic import statistic_of

_SHARES = (0.1, 0.25, 0.5)
_OF_LARGE = 0.99


class OperatingPoint(msgspec.Struct, frozen=True):
    """One target of the calibration, and the result on these prompts."""

    target: str
    threshold: float | None
    """In nats; None: all prompts go to the large model, or none."""
    large_share: float
    accuracy: float
    of_large: float
    """The cascade's accuracy divided by the large model's."""
    saved: float | None
    """Share of compute saved against the large model on every prompt (see `savings`); None: not measured."""


class Evaluation(msgspec.Struct, frozen=True):
    """The command's result."""

    outcomes: CascadeOutcomes
    curves: Curves
    points: tuple[OperatingPoint, ...]

    def table(self) -> str:
        outcomes = self.outcomes
        lines = [f"cascade {outcomes.cascade}, {outcomes.data.source}, {outcomes.labels}", self.curves.table(), ""]
        small, large = outcomes.small_cost, outcomes.large_cost
        lines.append(
            f"compute in engine steps: {outcomes.small} {small.processor_s:.3f} processor s ({small.wall_s:.3f} s), "
            f"{outcomes.large} {large.processor_s:.3f} s ({large.wall_s:.3f} s), "
            f"ratio {small.processor_s / large.processor_s:.3f}"
        )
        if self.points:
            figures = f"{'threshold':>10}{'realised %':>12}{'right %':>9}{'of large %':>12}{'saved %':>9}"
            lines += ["", f"{'calibrated to':<26}{figures}"]
        for point in self.points:
            threshold = "-" if point.threshold is None else f"{point.threshold:.4f}"
            saved = "-" if point.saved is None else f"{100 * point.saved:.1f}"
            lines.append(
                f"{point.target:<26}{threshold:>10}{100 * point.large_share:>12.1f}{100 * point.accuracy:>9.1f}"
                f"{100 * point.of_large:>12.2f}{saved:>9}"
            )
        return "\n".join(lines)

    def plot(self) -> str:
        """An SVG: accuracy over the share of prompts that go to the large model."""
        lines = {
            curve.name: [(share / 100, right) for share, right in enumerate(curve.accuracy)]
            for curve in self.curves.curves
        }
        marks = [
            ("always small", 0.0, self.curves.small_accuracy.value),
            ("always large", 1.0, self.curves.large_accuracy.value),
            *((point.target, point.large_share, point.accuracy) for point in self.points),
        ]
        title = f"{self.outcomes.cascade}: {self.outcomes.small} to {self.outcomes.large}"
        return line_plot(title, "share of prompts to the large model", "right answers", lines, marks)


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("eval", help="measure a cascade's accuracy and compute, beside baselines")
    cascade_run.add_arguments(parser)
    add = parser.add_argument
    add(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="calibration whose targets are checked (default: the cascade's)",
    )
    add("--save", type=Path, metavar="FILE", help="save the outcomes, for --outcomes")
    add("--outcomes", type=Path, metavar="FILE", help="use saved outcomes instead of running the models")
    add(
        "--share",
        type=float,
        action="append",
        metavar="S",
        help="share of prompts sent to the large model; repeatable (default: 0.1, 0.25, 0.5)",
    )
    add("--rounds", type=int, default=3, help="times to measure compute; the median is used (%(default)s)")
    add("--resamples", type=int, default=1000, help="bootstrap resamples (%(default)s)")
    add("--plot", type=Path, metavar="FILE", help="write the curves as an SVG")
    add("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run both models or read saved outcomes, evaluate, print."""
    if arguments.resamples < 1 or arguments.rounds < 1:
        raise CliError("--resamples and --rounds must be at least 1", 2)
    shares = arguments.share or _SHARES
    if not all(0 <= share <= 1 for share in shares):
        raise CliError("--share must be a number from 0 to 1", 2)
    for path in (arguments.save, arguments.plot):
        if path is not None:
            check_writable(path)
    pair = cascade_run.load_pair(arguments, calibrated=arguments.calibration is None)
    calibration = _calibration(arguments, pair)
    prompt_set = None
    if arguments.outcomes is None:
        prompt_set = cascade_run.load_prompts(arguments)
        prepare_environment()
        outcomes = cascade_run.run_pair(pair, prompt_set, say)
    else:
        outcomes = _read(arguments.outcomes)
    if arguments.save is not None:
        write_file(arguments.save, msgspec.json.encode(outcomes))
    statistic = calibration.statistic if calibration is not None else pair.cascade.defer.statistic
    points = []
    if calibration is not None:
        scores = scores_of(outcomes, calibration)
        targets = [(f"large_share = {share}", threshold_for_share(calibration, share)) for share in shares]
        targets.append((f"accuracy_of_large = {_OF_LARGE}", threshold_for_accuracy(calibration, _OF_LARGE)))
        sent = [_sent(scores, threshold) for _, threshold in targets]
        saved: list[float] | list[None] = [None] * len(targets)
        if prompt_set is not None:
            saved = cascade_run.savings(pair, prompt_set, outcomes, sent, rounds=arguments.rounds, say=say)
        points = [_point(outcomes, *point) for point in zip(targets, sent, saved, strict=True)]
    curves = curves_of(outcomes, statistic, arguments.seed, arguments.resamples, calibration)
    evaluation = Evaluation(outcomes, curves, tuple(points))
    if arguments.plot is not None:
        write_file(arguments.plot, evaluation.plot().encode())
    if arguments.json:
        data = msgspec.to_builtins(evaluation)
        del data["outcomes"]["judged"]  # --save writes the single answers
        print(msgspec.json.encode(data).decode())
    else:
        print(evaluation.table())
    return 0


def scores_of(outcomes: CascadeOutcomes, calibration: Calibration) -> list[float]:
    """The value of each prompt that the calibration's thresholds are compared with."""
    values = [statistic_of(calibration.statistic, outcome.margins) for outcome in outcomes.judged]
    model = calibration.prompt
    if model is None:
        return values
    return [
        score_of(model, priors_of(model, outcome.words), value)
        for outcome, value in zip(outcomes.judged, values, strict=True)
    ]


def curves_of(
    outcomes: CascadeOutcomes, statistic: Statistic, seed: int, resamples: int, calibration: Calibration | None = None
) -> Curves:
    """Curves by the calibration's prompt models (if it has them), by each statistic, and by prompt length."""
    names = (statistic, *(name for name in get_args(Statistic) if name != statistic))
    scores: dict[str, list[float]] = {}
    if calibration is not None and calibration.prompt is not None:
        scores[f"{statistic} by prompt"] = scores_of(outcomes, calibration)
    scores |= {name: [statistic_of(name, outcome.margins) for outcome in outcomes.judged] for name in names}
    scores["length"] = [-float(outcome.characters) for outcome in outcomes.judged]
    verdicts = [(outcome.small_right, outcome.large_right) for outcome in outcomes.judged]
    return deferral_curves(verdicts, scores, np.random.default_rng(seed), resamples)


def _sent(scores: list[float], threshold: float) -> list[int]:
    """Indices of the prompts that go to the large model: those with a score below the threshold."""
    return [place for place, score in enumerate(scores) if not score >= threshold or threshold == math.inf]


def _point(
    outcomes: CascadeOutcomes, target: tuple[str, float], sent: list[int], saved: float | None
) -> OperatingPoint:
    name, threshold = target
    chosen, count = set(sent), len(outcomes.judged)
    right = sum(
        outcome.large_right if place in chosen else outcome.small_right for place, outcome in enumerate(outcomes.judged)
    )
    large = sum(outcome.large_right for outcome in outcomes.judged)
    return OperatingPoint(
        target=name,
        threshold=threshold if math.isfinite(threshold) else None,
        large_share=len(sent) / count,
        accuracy=right / count,
        of_large=right / large if large else 0.0,
        saved=saved,
    )


def _calibration(arguments: argparse.Namespace, pair: CascadePair) -> Calibration | None:
    if arguments.calibration is None:
        return pair.cascade.defer.artefact
    try:
        return read_calibration(arguments.calibration)
    except BadCalibration as error:
        raise CliError(str(error)) from None


def _read(path: Path) -> CascadeOutcomes:
    try:
        return msgspec.json.decode(path.read_bytes(), type=CascadeOutcomes)
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror or error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CliError(f"{path} contains no outcomes as --save writes them: {error}", 2) from None
