"""Makes the paths in the settings absolute, relative to the folder of the TOML file, and reads the calibrations."""

from pathlib import Path

import msgspec

from config.model.calibration import BadCalibration, read_calibration
from config.model.routing import CascadeSettings
from config.model.settings import EngineSettings, Settings
from config.model.upstreams import UpstreamSettings
from config.problems.problems import Problems


def resolve(settings: Settings, folder: Path, problems: Problems, *, calibrated: bool = True) -> Settings:
    """The settings with absolute paths and, if `calibrated`, with the calibrations. Unreadable ones are reported."""
    return msgspec.structs.replace(
        settings,
        engines={name: _engine(engine, folder) for name, engine in settings.engines.items()},
        upstreams={name: _upstream(upstream, folder) for name, upstream in settings.upstreams.items()},
        cascades={name: _cascade(name, cascade, folder, problems) for name, cascade in settings.cascades.items()}
        if calibrated
        else settings.cascades,
    )


def _engine(engine: EngineSettings, folder: Path) -> EngineSettings:
    adapters = {
        name: msgspec.structs.replace(adapter, path=(folder / adapter.path).resolve())
        for name, adapter in engine.adapters.items()
    }
    return msgspec.structs.replace(engine, model=(folder / engine.model).resolve(), adapters=adapters)


def _upstream(upstream: UpstreamSettings, folder: Path) -> UpstreamSettings:
    if upstream.key is None or upstream.key.file is None:
        return upstream
    key = msgspec.structs.replace(upstream.key, file=(folder / upstream.key.file).resolve())
    return msgspec.structs.replace(upstream, key=key)


def _cascade(name: str, cascade: CascadeSettings, folder: Path, problems: Problems) -> CascadeSettings:
    if cascade.defer.calibration is None:
        return cascade
    path = (folder / cascade.defer.calibration).resolve()
    artefact = None
    try:
        artefact = read_calibration(path)
    except BadCalibration as error:
        problems.add(("cascades", name, "defer", "calibration"), str(error), breaks=True)
    defer = msgspec.structs.replace(cascade.defer, calibration=path, artefact=artefact)
    return msgspec.structs.replace(cascade, defer=defer)
