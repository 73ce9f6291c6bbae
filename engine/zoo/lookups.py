"""Look-up questions: a passage of facts about people, and a question about it.

Difficulty depends on the number of facts, on whether the question reverses their direction, whether a person moved, and
whether two facts must be joined. Some questions have no answer in the passage.
"""

from random import Random

import msgspec

from engine.zoo.question import ZooQuestion, is_held_out

UNKNOWN = "I do not know."
NAMES = ("Anna", "Ben", "Carla", "David", "Emma", "Felix", "Greta", "Hugo", "Ida", "Jonas", "Klara", "Leo",
         "Maria", "Nils", "Olga", "Paul", "Rosa", "Simon", "Tina", "Viktor")  # fmt: skip
CITIES = ("Athens", "Berlin", "Cairo", "Dublin", "Geneva", "Lima", "London", "Madrid", "Oslo", "Paris", "Quito",
          "Rome", "Tokyo", "Vienna", "Warsaw", "Zurich")  # fmt: skip
THINGS = ("bell", "boat", "book", "clock", "drum", "flute", "kite", "lamp", "map", "mirror", "piano", "radio",
          "ring", "rope", "stove", "wagon")  # fmt: skip

RECITALS = 3
"""Number of repetitions of the facts in a recital."""

_ASK = {
    "home": ("Where does {name} live?", "In which city does {name} live?"),
    "owner": ("Who has the {thing}?", "Who owns the {thing}?"),
    "resident": ("Who lives in {city}?", "Who is at home in {city}?"),
    "owner_home": ("Where does the owner of the {thing} live?", "In which city is the {thing}?"),
}


class _World(msgspec.Struct):
    """The facts of a passage, in order, and the state after all of them."""

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
    """The values that fill the question's template, and the answer."""
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


def _draw_world(rng: Random, level: int) -> _World:
    return _world(rng, people=rng.randint(1, 3) + level - 1, moves=rng.random() < 0.4)


def _question(rng: Random, kind: str, world: _World, level: int) -> ZooQuestion:
    """A question without the passage, which is only part of its key."""
    fill, answer = _ask(rng, kind, world)
    prompt = rng.choice(_ASK[kind]).format(**fill)
    return ZooQuestion(
        "lookups", kind, prompt, answer, level, f"{kind} {sorted(fill.values())} {' '.join(world.facts)}"
    )


def _with_passage(rng: Random, question: ZooQuestion, world: _World) -> ZooQuestion:
    passage, ask = " ".join(world.facts), question.prompt
    prompt = f"{passage} {ask}" if rng.random() < 0.7 else f"{ask} {passage}"
    return msgspec.structs.replace(question, prompt=prompt)


def lookups(rng: Random) -> ZooQuestion:
    """One question; the level (1 to 3) sets the number of people in the passage."""
    level = rng.randint(1, 3)
    kind = rng.choice(tuple(_ASK))
    world = _draw_world(rng, level)
    return _with_passage(rng, _question(rng, kind, world, level), world)


def recital(rng: Random, bare: float, turned: float = 0.0) -> list[tuple[str, str]]:
    """Facts about two to six people as (all but the last word, last word), four times, each time in a new order.

    From the second time on the last word is predictable: the densest training signal for looking up a value in context,
    without which neither model learned it within millions of tokens. `bare` is the probability that a fact omits its
    verb: a value next to its key is learned first, one behind a verb later. `turned` is the probability that a repeated
    fact is reversed or joined with another.
    """
    names = rng.sample(NAMES, rng.randint(2, 6))
    homes = [(name, " lives in", city) for name, city in zip(names, rng.sample(CITIES, len(names)), strict=True)]
    things = [(name, " has the", thing) for name, thing in zip(names, rng.sample(THINGS, len(names)), strict=True)]
    # Without verbs a person can only have one kind of fact.
    facts = rng.choice((homes, things)) if bare else homes + rng.sample(things, rng.randint(0, len(things)))
    written: list[tuple[str, str]] = []
    repeating = False
    for _ in range(1 + RECITALS):
        rng.shuffle(facts)
        for name, verb, last in facts:
            start, end = f" {name}{'' if rng.random() < bare else verb}", f" {last}"
            if turned and repeating and rng.random() < turned:
                start, end = _turned(rng, (name, verb, last), {who: town for who, _, town in homes}, bare)
            written.append((start, end))
        repeating = True
    return written


def _turned(rng: Random, fact: tuple[str, str, str], homes: dict[str, str], bare: float) -> tuple[str, str]:
    """The person by the city or the thing; or the city of the thing's owner."""
    name, verb, last = fact
    plain = rng.random() < bare
    if verb == " lives in":
        return f" {last}{'' if plain else ' is home to'}", f" {name}"
    if not bare and rng.random() < 0.5:
        return f" the {last} is in", f" {homes[name]}"
    return f" {last}{'' if plain else ' belongs to'}", f" {name}"


def follow_ups(rng: Random, level: int, count: int) -> list[ZooQuestion]:
    """Up to `count` questions about one passage, none held out; the first one's prompt contains the passage.

    A passage is long and an answer short, so several questions per passage give more training signal per token.
    """
    while True:
        world = _draw_world(rng, level)
        drawn = [_question(rng, rng.choice(tuple(_ASK)), world, level) for _ in range(count)]
        kept = [question for question in drawn if not is_held_out(question)]
        if kept:
            return [_with_passage(rng, kept[0], world), *kept[1:]]
