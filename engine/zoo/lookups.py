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

_ASK = {
    "home": ("Where does {name} live?", "In which city does {name} live?"),
    "owner": ("Who has the {thing}?", "Who owns the {thing}?"),
    "resident": ("Who lives in {city}?", "Who is at home in {city}?"),
    "owner_home": ("Where does the owner of the {thing} live?", "In which city is the {thing}?"),
}


class _World(msgspec.Struct):
    """What the passage says, in order, and what is true at its end."""

    facts: list[str]
    home: dict[str, str]
    owner: dict[str, str]


def _world(rng: Random, people: int, moves: int) -> _World:
    names = rng.sample(NAMES, people)
    cities = rng.sample(CITIES, people + moves)
    home = dict(zip(names, cities, strict=False))
    owner = dict(zip(rng.sample(THINGS, rng.randint(1, people)), names, strict=False))
    facts = [f"{name} lives in {home[name]}." for name in names]
    facts += [f"{name} has the {thing}." for thing, name in owner.items()]
    rng.shuffle(facts)
    for name, city in zip(rng.sample(names, moves), cities[people:], strict=True):
        facts.append(f"Then {name} moved to {city}.")
        home[name] = city
    return _World(facts, home, owner)


def _ask(rng: Random, kind: str, world: _World) -> tuple[dict[str, str], str]:
    """The words that fill the question, and its answer."""
    known = rng.random() < 0.9
    if kind == "home":
        name = rng.choice(tuple(world.home) if known else NAMES)
        return {"name": name}, f"{name} lives in {world.home[name]}." if name in world.home else UNKNOWN
    if kind == "resident":
        city = rng.choice(tuple(world.home.values()) if known else CITIES)
        names = [name for name, town in world.home.items() if town == city]
        return {"city": city}, f"{names[0]} lives in {city}." if names else UNKNOWN
    thing = rng.choice(tuple(world.owner) if known else THINGS)
    name = world.owner.get(thing, "")
    if not name:
        return {"thing": thing}, UNKNOWN
    return {"thing": thing}, f"{name} has the {thing}." if kind == "owner" else f"{name} lives in {world.home[name]}."


def lookups(rng: Random) -> Question:
    """One question; the level (1 to 3) sets how many people the passage is about."""
    level = rng.randint(1, 3)
    kind = rng.choice(tuple(_ASK))
    world = _world(rng, people=rng.randint(1, 3) + level - 1, moves=rng.random() < 0.4)
    fill, answer = _ask(rng, kind, world)
    passage, question = " ".join(world.facts), rng.choice(_ASK[kind]).format(**fill)
    prompt = f"{passage} {question}" if rng.random() < 0.7 else f"{question} {passage}"
    return Question("lookups", kind, prompt, answer, level, f"{kind} {sorted(fill.values())} {passage}")
