"""Whether calibrations were made for the weights that will answer: a threshold says nothing about other ones."""

from config.model.settings import Settings
from config.model_digest import served_digest
from config.problems.problems import Problems


def check_calibrated_weights(settings: Settings, problems: Problems) -> None:
    """Compare digests, where both the model's files and the calibration's word on them are there."""
    digests: dict[str, str | None] = {}
    for name, cascade in settings.cascades.items():
        made = cascade.defer.artefact
        if made is None or (made.small, made.large) != cascade.stages:
            continue  # told elsewhere
        for stage, expected in zip(cascade.stages, (made.small_digest, made.large_digest), strict=True):
            if not expected or stage not in settings.engines:
                continue
            if stage not in digests:
                digests[stage] = _digest(settings, stage)
            found = digests[stage]
            if found is not None and found != expected:
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
        return None  # told where models' files are looked for
