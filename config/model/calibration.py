"""Calibrations, the JSON files written by `penstock policy calibrate`: shares and accuracy by deferral threshold."""

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
    """Standard error of the difference between this accuracy and the large model's on the calibration's prompts."""


class CalibrationData(msgspec.Struct, frozen=True):
    """The data set that the calibration was made from."""

    sha256: str
    prompts: int
    source: str


class CalibrationError(msgspec.Struct, frozen=True):
    """Errors of the calibration's probabilities, cross-validated."""

    expected_calibration_error: float
    brier: float
    share_standard_error: float
    """Standard error of the realised share, for a threshold of share 0.5 on as many new prompts."""


class PromptModel(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of the logistic models of `policies.cascade.prompt_model`."""

    slope: float
    """Log-odds per nat of the statistic; positive."""
    small_bias: float
    small_words: tuple[float, ...]
    large_bias: float
    large_words: tuple[float, ...]
    small_mean: float
    """Mean log-odds over the calibration's prompts, at a statistic of 0."""
    large_mean: float
    """Mean probability over the calibration's prompts."""


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """One calibration. `rows` increase in threshold and do not decrease in large_share; `isotonic` likewise."""

    schema: Literal[1] = 1
    name: str
    created: dt.date
    statistic: Statistic
    small: str
    large: str
    small_digest: str
    """Digest of the model's weights and tokenizer (`config.model_digest`); "" if unknown. `large_digest` likewise."""
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
    """If present, the thresholds of `rows` and the statistics of `isotonic` are values of
    `policies.cascade.prompt_model.score_of`."""


class BadCalibration(Exception):  # noqa: N818  (describes the file)
    """The file cannot be read, or is not a calibration; the text says why and what to do."""


def read_calibration(path: Path) -> Calibration:
    """Read a calibration from its JSON file. Raises BadCalibration."""
    try:
        calibration = msgspec.json.decode(path.read_bytes(), type=Calibration)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadCalibration(f"{path} cannot be read ({reason}): make it with `penstock policy calibrate`") from None
    except msgspec.DecodeError as error:
        raise BadCalibration(f"{path} is no calibration: {error}") from None
    for before, after in zip(calibration.rows, calibration.rows[1:], strict=False):
        if not (before.threshold < after.threshold and before.large_share <= after.large_share):
            raise BadCalibration(f"{path} is no calibration: its rows do not rise")
    if len(calibration.rows) < 2:
        raise BadCalibration(f"{path} is no calibration: it has fewer than two rows")
    return calibration
