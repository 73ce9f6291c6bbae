"""Checks that calibrations were made for the weights that are served: their thresholds are not valid for others."""

from config.model.settings import Settings
from config.model_digest import served_digest
from config.problems.problems import Problems


def check_calibrated_weights(settings: Settings, problems: Problems) -> None:
    """Compare the digests in the calibrations with those of the models' files, where both exist."""
    digests: dict[str, str | None] = {}
    for name, cascade in settings.cascades.items():
        made = cascade.defer.artefact
        if made is None or (made.small, made.large) != cascade.stages:
            continue  # reported by `check_cascades`
        for stage, expected in zip(cascade.stages, (made.small_digest, made.large_digest), strict=True):
            if not expected or stage not in settings.engines:
                continue
            if stage not in digests:
                digests[stage] = _digest(settings, stage)
            digest = digests[stage]
            if digest is not None and digest != expected:
                problems.add(
                    ("cascades", name, "defer", "calibration"),
                    f"the calibration \"{made.name}\" was made for other weights of '{stage}' than those in "
                    f"{settings.engines[stage].model}",
                    expected=f"one for these weights: `penstock policy calibrate --cascade {name}`",
                )


def _digest(settings: Settings, engine: str) -> str | None:
    try:
        return served_digest(settings.engines[engine])
    except OSError:
        return None  # reported by `config.check.model_files`
