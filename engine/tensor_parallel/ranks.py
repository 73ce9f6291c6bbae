"""Settings of the individual ranks."""

import msgspec

from config.model.settings import EngineSettings


def rank_settings(settings: EngineSettings) -> list[EngineSettings]:
    """Settings per rank, with its own device; with several replicas those of the first."""
    devices = settings.devices[: settings.tensor_parallel] or (settings.device,) * settings.tensor_parallel
    return [
        msgspec.structs.replace(settings, device=device, devices=(), replicas=1, tensor_parallel=1)
        for device in devices
    ]
