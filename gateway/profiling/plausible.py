"""Checks whether a profile is plausible for an idle machine: other load during the measurement shows in it."""

from gateway.profiling.profile import EngineProfile, Profile, ServiceTimes, StepShape

_NOISE = 1.1
_LONGEST = 50.0
"""Factor over a step's own time that no service reaches."""


def doubts(profile: Profile) -> tuple[str, ...]:
    """What is implausible, one sentence an engine; empty if nothing is."""
    return tuple([f"engine {name}: {doubt}" for name, engine in profile.engines.items() if (doubt := _doubt(engine))])


def _doubt(engine: EngineProfile) -> str:
    shape = StepShape(1, 1, 1, engine.max_model_len // 4, 0.0)
    own = engine.cost.seconds(shape)
    alone = _seconds(engine.served, own)
    beside = _seconds(engine.beside or engine.served, own)
    if alone > _NOISE * beside:
        return (
            f"a decode takes {1000 * alone:.2f} ms alone and {1000 * beside:.2f} ms beside another busy "
            "engine; the machine was not idle"
        )
    if beside > _LONGEST * own:
        return f"a decode takes {1000 * own:.2f} ms, and {1000 * beside:.2f} ms in service; the machine was not idle"
    return ""


def _seconds(service: ServiceTimes, own: float) -> float:
    """Mean time in service of a step that decodes one sequence."""
    return service.factor * own + service.per_sample + sum(service.pauses) / len(service.pauses)
