"""The artefact of `penstock policy calibrate`: how the deferral statistic relates to shares and accuracy. JSON."""

import datetime as dt
from pathlib import Path
from typing import Literal

import msgspec

Statistic = Literal["min_margin", "joint_margin", "low_quantile"]


class CalibrationRow(msgspec.Struct, frozen=True):
    """One threshold: answers whose statistic is below it go to the large model."""

    threshold: float
    large_share: float
    accuracy: float
    lag_error: float = 0.0
    """Standard error of how far this accuracy is behind the large model's, as it was found on these prompts."""


class CalibrationData(msgspec.Struct, frozen=True):
    """What it was made from."""

    sha256: str
    prompts: int
    source: str


class CalibrationError(msgspec.Struct, frozen=True):
    """How far off it is, estimated on folds that it was not fitted to."""

    expected_calibration_error: float
    brier: float
    share_standard_error: float
    """Of the realised share at a threshold for a half, on as many fresh prompts."""


class PromptModel(msgspec.Struct, frozen=True, kw_only=True):
    """Thresholds by what a prompt says: see `policies.cascade.prompt_model`, which reads it."""

    slope: float
    """Log-odds that one nat of the statistic is worth; positive."""
    small_bias: float
    small_words: tuple[float, ...]
    large_bias: float
    large_words: tuple[float, ...]
    small_mean: float
    """Log-odds, over the prompts that it was made from."""
    large_mean: float
    """A probability, likewise."""


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """See the module. `rows` rise in threshold and in large_share; `isotonic` rises in both."""

    schema: Literal[1] = 1
    name: str
    created: dt.date
    statistic: Statistic
    small: str
    large: str
    small_digest: str
    """Of the model's weights and tokenizer; "" if unknown."""
    large_digest: str
    labels: Literal["labelled", "agreement"]
    data: CalibrationData
    rows: tuple[CalibrationRow, ...]
    small_accuracy: float
    large_accuracy: float
    isotonic: tuple[tuple[float, float], ...]
    """(statistic, probability that the small model's answer is right)."""
    error: CalibrationError
    prompt: PromptModel | None = None
    """With it, thresholds are levels of `policies.cascade.prompt_model.score_of`, as is what `isotonic` starts from."""


class BadCalibration(Exception):  # noqa: N818  (a fact about a file)
    """The file is not there, or no calibration; the text says which and what to do."""


def read_calibration(path: Path) -> Calibration:
    """Raises BadCalibration."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Calibration)
    except OSError as error:
        what = error.strerror or str(error)
        raise BadCalibration(f"{path} cannot be read ({what}): make it with `penstock policy calibrate`") from None
    except msgspec.DecodeError as error:
        raise BadCalibration(f"{path} is no calibration: {error}") from None
    for before, after in zip(found.rows, found.rows[1:], strict=False):
        if not (before.threshold < after.threshold and before.large_share <= after.large_share):
            raise BadCalibration(f"{path} is no calibration: its rows do not rise")
    if len(found.rows) < 2:
        raise BadCalibration(f"{path} is no calibration: it has fewer than two rows")
    return found
