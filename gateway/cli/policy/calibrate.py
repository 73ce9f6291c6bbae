"""`penstock policy calibrate`: run both models of a cascade on prompts, and write thresholds for its targets."""

import argparse
import datetime as dt
import math
from pathlib import Path
from typing import Any

import msgspec

from config.model.calibration import Calibration, Statistic
from engine.threads import prepare_environment
from gateway.cli.terminal import check_writable, say, write_file
from gateway.errors import CliError
from gateway.evaluation.cascade_run import CascadeOutcomes, add_arguments, load_pair, load_prompts, run_pair
from policies.authoring.calibration_fit import (
    Scored,
    check_enough,
    encode_calibration,
    fit,
    fit_prompt_model,
    scores_unseen,
)
from policies.cascade.calibration import threshold_for_accuracy, threshold_for_share
from policies.cascade.statistic import statistic_of

_SHARES = (0.1, 0.25, 0.5)
_HIGHEST = 1e6
"""Used as the statistic, in nats, of an answer whose every token was forced by a grammar."""


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("calibrate", help="make the calibration file from which a cascade gets its threshold")
    add_arguments(parser)
    parser.add_argument(
        "--statistic",
        choices=("min_margin", "joint_margin", "low_quantile"),
        help="deferral statistic (default: the cascade's)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="calibration file to write (JSON)")
    parser.add_argument(
        "--by-prompt",
        action="store_true",
        help="fit a threshold for each prompt from its words; needs a thousand prompts or more",
    )
    parser.add_argument("--json", action="store_true", help="also print the calibration as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the models, fit, write the file, print a summary."""
    pair = load_pair(arguments, calibrated=False)
    prompt_set = load_prompts(arguments)
    try:
        check_enough(len(prompt_set.prompts))
    except ValueError as error:
        raise CliError(str(error), 2) from None
    check_writable(arguments.out)
    prepare_environment()
    outcomes = run_pair(pair, prompt_set, say)
    try:
        calibration = calibrate(
            outcomes, arguments.statistic or pair.cascade.defer.statistic, by_prompt=arguments.by_prompt
        )
    except ValueError as error:
        raise CliError(f"the calibration failed: {error}") from None
    write_file(arguments.out, encode_calibration(calibration))
    print(msgspec.json.encode(calibration).decode() if arguments.json else _summary(calibration, arguments.out))
    return 0


def calibrate(outcomes: CascadeOutcomes, statistic: Statistic, *, by_prompt: bool) -> Calibration:
    """Fit the calibration; `by_prompt`: with models of the prompt's words, for a threshold of each prompt.

    Raises ValueError if there is too little to fit.
    """
    scored = [
        Scored(
            min(statistic_of(statistic, outcome.margins), _HIGHEST),
            outcome.small_right,
            outcome.large_right,
            outcome.words,
        )
        for outcome in outcomes.judged
    ]
    prompt = None
    if by_prompt:
        prompt = fit_prompt_model(scored)
        levels = scores_unseen(scored)
        scored = [msgspec.structs.replace(item, score=level) for item, level in zip(scored, levels, strict=True)]
    return Calibration(
        name=outcomes.cascade,
        created=dt.datetime.now(dt.UTC).date(),
        statistic=statistic,
        small=outcomes.small,
        large=outcomes.large,
        small_digest=outcomes.small_digest,
        large_digest=outcomes.large_digest,
        labels=outcomes.labels,
        data=outcomes.data,
        **msgspec.structs.asdict(fit(scored)),
        prompt=prompt,
    )


def _summary(calibration: Calibration, path: Path) -> str:
    data, error = calibration.data, calibration.error
    column = "threshold (nats)" if calibration.prompt is None else "level (P small right - P large right)"
    lines = [
        f"{path}: {calibration.statistic} on {data.prompts} prompts ({data.source}), {calibration.labels}",
        (
            f"right: {calibration.small} {100 * calibration.small_accuracy:.1f} %, "
            f"{calibration.large} {100 * calibration.large_accuracy:.1f} %"
        ),
        f"on unseen prompts: calibration error {error.expected_calibration_error:.3f}, Brier score {error.brier:.3f}",
        f"{'target':<28}{column}",
    ]
    for share in _SHARES:
        lines.append(f"{f'large_share = {share}':<28}{threshold_for_share(calibration, share):.4f}")
    value = threshold_for_accuracy(calibration, 0.99)
    words = "all to the large model" if value == math.inf else f"{value:.4f}"
    lines.append(f"{'accuracy_of_large = 0.99':<28}{words}")
    return "\n".join(lines)
