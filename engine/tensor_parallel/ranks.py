"""What each rank of an engine is loaded with."""

import msgspec

from config.model.settings import EngineSettings


def rank_settings(settings: EngineSettings) -> list[EngineSettings]:
    """For each rank an engine of its own, on its device; of several replicas the first one's."""
    devices = settings.devices[: settings.tensor_parallel] or (settings.device,) * settings.tensor_parallel
    return [
        msgspec.structs.replace(settings, device=device, devices=(), replicas=1, tensor_parallel=1)
        for device in devices
    ]
