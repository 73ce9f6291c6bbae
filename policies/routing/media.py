"""Which rungs of a route may answer a conversation that contains images, sounds or files."""

from collections.abc import Collection, Iterable, Sequence

from config.model.media import Medium
from policies.errors import CannotServe
from policies.model.plan import PlannedRung, PlannedShadow

_WORDS = {"image": "images", "audio": "sounds", "file": "files"}
_MOST_NAMED = 5


def takes_all(rung: PlannedRung | PlannedShadow, media: Collection[Medium]) -> bool:
    """Whether a prompt to the rung may contain all of it."""
    return all(medium in rung.takes for medium in media)


def taking(
    stages: Sequence[PlannedRung], rungs: Sequence[PlannedRung], media: Collection[Medium]
) -> tuple[tuple[PlannedRung, ...], tuple[str, ...]]:
    """The rungs of a plan without a cascade, and which are left out; no rungs if no model takes all of `media`.

    A small stage is an engine, and none takes any: so the large stage of a cascade comes first, if it takes them.
    """
    lead = [stage for stage in stages if takes_all(stage, media)]
    led = {stage.to for stage in lead}
    left = [*lead, *[rung for rung in rungs if rung.to is None or (takes_all(rung, media) and rung.to not in led)]]
    if all(rung.to is None for rung in left):
        return (), ()
    unfit = dict.fromkeys([rung.to for rung in (*stages, *rungs) if rung.to and not takes_all(rung, media)])
    return tuple(left), tuple([f"{name} is left out: it takes no {_named(media)}" for name in unfit])


def not_taken(model: str, media: Sequence[tuple[Medium, str]], others: Sequence[str]) -> CannotServe:
    """The refusal where no rung is left. `media`: with their fields. `others`: models that would take the request."""
    if others:
        named = ", ".join(others[:_MOST_NAMED]) + (" …" if len(others) > _MOST_NAMED else "")
        hint = f"These models take them: {named}."
    else:
        hint = "No model of this server does: leave them out."
    message = f"The model '{model}' takes no {_named([medium for medium, _ in media])}. {hint}"
    return CannotServe(message, param=media[0][1], code="media_not_supported")


def _named(media: Iterable[Medium]) -> str:
    return " and ".join([_WORDS[medium] for medium in media])
