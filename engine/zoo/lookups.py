"""Look-ups: a passage of facts about people, and a question that one, two or none of them answer.

What makes one hard is the number of facts, whether the question runs against the order of the facts, whether
somebody moved, and whether two facts must be joined. Some questions ask for what the passage does not say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from engine.zoo.question import Question

if TYPE_CHECKING:
    from random import Random

UNKNOWN = "I do not know."
NAMES = ("Anna", "Ben", "Carla", "David", "Emma", "Felix", "Greta", "Hugo", "Ida", "Jonas", "Klara", "Leo",
         "Maria", "Nils", "Olga", "Paul", "Rosa", "Simon", "Tina", "Viktor")  # fmt: skip
CITIES = ("Athens", "Berlin", "Cairo", "Dublin", "Geneva", "Lima", "London", "Madrid", "Oslo", "Paris", "Quito",
          "Rome", "Tokyo", "Vienna", "Warsaw", "Zurich")  # fmt: skip
THINGS = ("bell", "boat", "book", "clock", "drum", "flute", "kite", "lamp", "map", "mirror", "piano", "radio",
          "ring", "rope", "stove", "wagon")  # fmt: skip
JOBS = ("baker", "doctor", "farmer", "judge", "miner", "nurse", "painter", "pilot", "sailor", "singer", "tailor",
        "teacher")  # fmt: skip

_ASK = {
    "home": ("Where does {name} live?", "In which city does {name} live?"),
    "job": ("What does {name} do?", "What is the job of {name}?"),
    "owner": ("Who has the {thing}?", "Who owns the {thing}?"),
    "resident": ("Who lives in {city}?",),
    "owner_home": ("Where does the owner of the {thing} live?", "In which city is the {thing}?"),
    "worker_home": ("Where does the {job} live?", "In which city does the {job} work?"),
    "owner_job": ("What does the owner of the {thing} do?", "What is the job of the owner of the {thing}?"),
}


class _World(msgspec.Struct):
    """What the passage says, in order, and what is true at its end."""

    facts: list[str]
    home: dict[str, str]
    thing: dict[str, str]
    job: dict[str, str]


def _world(rng: Random, people: int, moves: int) -> _World:
    names = rng.sample(NAMES, people)
    cities = rng.sample(CITIES, people + moves)
    home = dict(zip(names, cities, strict=False))
    thing = dict(zip(names, rng.sample(THINGS, people), strict=True))
    job = dict(zip(names, rng.sample(JOBS, people), strict=True))
    facts = [f"{name} lives in {home[name]}." for name in names]
    extra = [f"{name} has the {thing[name]}." for name in names] + [f"{name} is a {job[name]}." for name in names]
    facts += rng.sample(extra, rng.randint(people, len(extra)))
    rng.shuffle(facts)
    for name, city in zip(rng.sample(names, moves), cities[people:], strict=True):
        facts.append(f"Then {name} moved to {city}.")
        home[name] = city
    stated = set(facts)
    thing = {name: what for name, what in thing.items() if f"{name} has the {what}." in stated}
    job = {name: what for name, what in job.items() if f"{name} is a {what}." in stated}
    return _World(facts, home, thing, job)


def _ask(rng: Random, kind: str, world: _World) -> tuple[dict[str, str], str]:
    """The words that fill the question, and its answer."""
    owner = {what: name for name, what in world.thing.items()}
    worker = {what: name for name, what in world.job.items()}
    known = rng.random() < 0.9  # noqa: PLR2004 - a share
    match kind:
        case "home":
            name = rng.choice(tuple(world.home) if known else NAMES)
            return {"name": name}, world.home.get(name, UNKNOWN)
        case "job":
            name = rng.choice(tuple(world.job) if known and world.job else NAMES)
            return {"name": name}, world.job.get(name, UNKNOWN)
        case "resident":
            city = rng.choice(tuple(world.home.values()) if known else CITIES)
            return {"city": city}, {town: name for name, town in world.home.items()}.get(city, UNKNOWN)
        case "worker_home":
            job = rng.choice(tuple(worker) if known and worker else JOBS)
            return {"job": job}, world.home[worker[job]] if job in worker else UNKNOWN
    thing = rng.choice(tuple(owner) if known and owner else THINGS)
    holder = owner.get(thing)
    if holder is None:
        return {"thing": thing}, UNKNOWN
    answers = {"owner": holder, "owner_home": world.home[holder], "owner_job": world.job.get(holder, UNKNOWN)}
    return {"thing": thing}, answers[kind]


def lookups(rng: Random) -> Question:
    """One question; the level (1 to 3) sets how many people the passage is about."""
    level = rng.randint(1, 3)
    kind = rng.choice(tuple(_ASK))
    world = _world(rng, people=rng.randint(2, 3) + level - 1, moves=rng.randint(0, 1))
    fill, answer = _ask(rng, kind, world)
    passage, question = " ".join(world.facts), rng.choice(_ASK[kind]).format(**fill)
    prompt = f"{passage} {question}" if rng.random() < 0.7 else f"{question} {passage}"  # noqa: PLR2004 - a share
    return Question("lookups", kind, prompt, answer, level, f"{kind} {sorted(fill.values())} {passage}")
