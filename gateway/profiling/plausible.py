"""Is a profile one that a quiet machine can have given? Something else that ran beside the probe shows in it."""

from gateway.profiling.profile import EngineProfile, Profile, ServiceTimes, StepShape

_NOISE = 1.1
_LONGEST = 50.0
"""Times its own time: no service makes a step as long as this."""


def doubts(profile: Profile) -> tuple[str, ...]:
    """What cannot be so, a sentence an engine; empty: nothing stands out."""
    return tuple([f"engine {name}: {said}" for name, each in profile.engines.items() if (said := _doubt(each))])


def _doubt(engine: EngineProfile) -> str:
    shape = StepShape(1, 1, 1, engine.max_model_len // 4, 0.0)
    own = engine.cost.seconds(shape)
    alone = _seconds(engine.served, own)
    beside = _seconds(engine.beside or engine.served, own)
    if alone > _NOISE * beside:
        return (
            f"a decode takes {1000 * alone:.2f} ms by itself and {1000 * beside:.2f} ms beside another engine that "
            "computes; the machine was not quiet"
        )
    if beside > _LONGEST * own:
        return f"a decode takes {1000 * own:.2f} ms, and {1000 * beside:.2f} ms in service; the machine was not quiet"
    return ""


def _seconds(service: ServiceTimes, own: float) -> float:
    """Of a decode of one sequence, in the mean."""
    return service.factor * own + service.per_sample + sum(service.pauses) / len(service.pauses)
