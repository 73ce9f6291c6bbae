"""One round: a mixed load, an engine, an upstream and a client that go in its midst, and what must be true after it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import trio
from structlog.testing import capture_logs

from tests.actors.upstream.network import Asked
from tests.fault_table import upstreams as up
from tests.fault_table.engines import defect, lost, no_memory
from tests.fault_table.scene import Scene, simulated
from tests.fault_table.seen import TRANSPORTS, Left, Seen, Transport
from tests.kills.load import ENGINES, KINDS, SERVERS, is_valid, service, uncut, uncut_costs

_MOST_STEPS = 60
_ARRIVE_S = 1.5
_SETTLES_S = 5.0
_STEPS_AHEAD = 2
"""A step may be under way, and the outputs of another one on their way, when a client goes."""


@dataclass
class Sent:
    """One request of the load."""

    kind: str
    transport: Transport
    at_s: float
    seen: Seen = field(init=False)

    def __post_init__(self) -> None:
        self.seen = Seen(self.transport)


@dataclass
class RoundReport:
    """What the kills of one round did."""

    kills: Counter[str] = field(default_factory=Counter)
    """Those that came before the answers had ended, by victim."""
    ends: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    """What must not be."""


def kill_some(seed: int, number: int) -> RoundReport:
    """The same round for the same seed and number."""
    uncut()
    with capture_logs():
        report: RoundReport = simulated(partial(_kill_some, Random(f"{seed} {number}")), f"{seed} {number}")
    return report


async def _kill_some(chance: Random) -> RoundReport:
    report = RoundReport()
    sent = [
        Sent(name, chance.choice(TRANSPORTS), chance.random() * _ARRIVE_S)
        for name in chance.sample(sorted(KINDS), chance.randint(4, 7))
    ]
    here: Scene
    async with service(Path("/nowhere")) as here:
        _arm_engine(here, report, chance)
        _arm_upstream(here, report, chance)
        _arm_client(report, sent, chance)
        async with trio.open_nursery() as nursery:
            for each in sent:
                nursery.start_soon(_ask, here, each)
        here.service.on_step.clear()
        here.network.servers.update(SERVERS)
        await trio.sleep(_SETTLES_S)
        try:
            await here.service.assert_clean()
        except AssertionError as error:
            report.faults.append(f"something was left: {error}")
        rows = here.service.rows()
    for each in sent:
        judge(report, each, rows.get(each.seen.request_id))
    known = {each.seen.request_id for each in sent}
    strange = sum(name not in known for name in rows)
    if strange > sum(each.seen.left and not each.seen.request_id for each in sent):
        report.faults.append("the ledger has rows that no request has")
    return report


async def _ask(here: Scene, each: Sent) -> None:
    await trio.sleep(each.at_s)
    await here.ask(each.transport, KINDS[each.kind].body, seen=each.seen)


def _arm_engine(here: Scene, report: RoundReport, chance: Random) -> None:
    engine, how = chance.choice(ENGINES), chance.choice([lost, no_memory, defect])

    def die() -> None:
        report.kills[f"engine {engine}"] += 1
        how()

    here.on_step(engine, chance.randrange(_MOST_STEPS), die)


def _arm_upstream(here: Scene, report: RoundReport, chance: Random) -> None:
    """Some of its calls are cut, each after so many pieces."""
    pieces = chance.randint(-1, len(up.PIECES))

    async def close(asked: Asked) -> None:
        report.kills["upstream"] += 1
        await up.closes(asked)

    cut = up.fails_after(here, pieces, close)
    here.network.servers["a"] = up.first(*[cut] * chance.randint(1, 3), SERVERS["a"])


def _arm_client(report: RoundReport, sent: Sequence[Sent], chance: Random) -> None:
    leaver, after = chance.choice(sent), chance.randint(1, 20)

    def leave(seen: Seen) -> None:
        if seen.pieces >= after and seen.transport != "whole":
            report.kills["client"] += 1
            raise Left

    leaver.seen.on_piece = leave


def judge(report: RoundReport, each: Sent, row: dict[str, Any] | None) -> None:
    """Nothing lost, nothing doubled, nothing invented; the ledger says what the client saw."""
    seen, whole, kind = each.seen, uncut()[each.kind], KINDS[each.kind]

    def wrong(what: str) -> None:
        report.faults.append(f"{each.kind} ({each.transport}): {what}")

    report.ends["whole" if seen.done else "left" if seen.left else "true error" if seen.error else "lost"] += 1
    if seen.lost or (not seen.ended and not seen.left):
        wrong("its end was lost")
    if seen.ended > 1:
        wrong(f"it ended {seen.ended} times")
    if seen.done:
        if seen.content() != whole.content():
            wrong("another answer than without the kill")
        if not is_valid(each.kind, seen):
            wrong("invalid JSON")
    for index, choice in seen.choices.items():
        if not whole.choices[index].text.startswith(choice.text):
            wrong("not the beginning of the answer without the kill")
    if row is None:
        if seen.done or seen.pieces:
            wrong("it is not in the ledger")
        return
    used = row["prompt_tokens"], row["completion_tokens"]
    if seen.done and seen.usage != used:
        wrong(f"the client read {seen.usage}, and the ledger has {used}")
    most = uncut_costs()[each.kind] + _STEPS_AHEAD * kind.choices
    if (row["cost"] or 0) > most:
        wrong(f"{row['cost']} was charged, and without the kill {most}")
    small_models = used[0] + row["discarded_tokens"]
    if not seen.done and not seen.left and (row["cost"] or 0) > small_models:
        wrong(f"an answer that ended with an error was charged {row['cost']}")
    if seen.left and kind.counts and used[1] > seen.pieces + _STEPS_AHEAD * kind.choices:
        wrong(f"{used[1]} tokens were charged, and {seen.pieces} were seen")
