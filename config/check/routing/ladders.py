"""Checks ladders: the keys of every rung, rungs that can never be reached, and ladders that refer to themselves."""

from config.check.names import cycles, flat, known, known_adapter, known_rung
from config.model.routing import BreakerSettings, RungSettings
from config.model.settings import Settings
from config.problems.problems import Problems
from config.problems.source_map import Path

_ONE_OF = ("to", "answer", "ladder")


def check_ladders(settings: Settings, problems: Problems) -> None:
    uses = {
        name: [rung.ladder for rung in ladder if rung.ladder is not None] for name, ladder in settings.ladders.items()
    }
    for cycle in cycles(uses):
        rungs = settings.ladders[cycle[0]]
        number = next(index for index, rung in enumerate(rungs) if rung.ladder == cycle[1])
        problems.add(
            ("ladders", cycle[0], number, "ladder"),
            f"the ladder refers to itself: {' → '.join(cycle)}",
            breaks=True,
        )
    breakers: dict[str, tuple[BreakerSettings, str]] = {}
    for name, ladder in settings.ladders.items():
        if not ladder:
            problems.add(("ladders", name), "a ladder needs at least one rung", expected=f"[[ladders.{name}]]")
        for index, rung in enumerate(ladder):
            path: Path = ("ladders", name, index)
            _check_rung(settings, path, rung, problems)
            if rung.to is not None and rung.breaker != BreakerSettings():
                other, place = breakers.setdefault(rung.to, (rung.breaker, f"ladders.{name}[{index}]"))
                if other != rung.breaker:
                    problems.add(
                        (*path, "breaker"),
                        f"the rung '{rung.to}' has one breaker, and {place} sets other values",
                        expected="the same values, or the breaker in one place only",
                    )
        _check_order(settings, name, problems)


def _check_rung(settings: Settings, path: Path, rung: RungSettings, problems: Problems) -> None:
    given = [word for word in _ONE_OF if getattr(rung, word) is not None]
    if len(given) != 1:
        got = f"{' and '.join(given)} are given" if given else "none is given"
        problems.add(path, f"a rung has exactly one of 'to', 'answer' and 'ladder'; {got}")
        return
    if rung.to is not None:
        known_rung(settings, (*path, "to"), rung.to, problems)
        if rung.wait_out > 0 and rung.to in settings.engines:
            problems.add_at_key(
                (*path, "wait_out"),
                f"the engine '{rung.to}' never requests a pause",
                expected="a rung that is an upstream",
            )
        if rung.adapter is not None:
            known_adapter(settings, (*path, "adapter"), rung.to, rung.adapter, problems)
        return
    if rung.answer is not None and not rung.answer.strip():
        problems.add((*path, "answer"), "the answer is empty", expected="a sentence for the reader")
    if rung.ladder is not None:
        known(settings, (*path, "ladder"), "ladder", rung.ladder, problems)
    what = "a static answer" if rung.ladder is None else "a rung that is another ladder"
    words = ["retries", "ttft", "breaker", "adapter", "wait_out", *(["mark"] if rung.ladder is not None else [])]
    for word in words:
        if getattr(rung, word) != getattr(RungSettings(), word):
            problems.add_at_key((*path, word), f"{what} has no {word}")


def _check_order(settings: Settings, name: str, problems: Problems) -> None:
    """Report rungs after one that always answers, and rungs and ladders that occur twice."""
    ladder = settings.ladders[name]
    tried: dict[tuple[str, str | None], int] = {}
    tried_ladders: set[str] = set()
    for index, rung in enumerate(ladder):
        path: Path = ("ladders", name, index)
        always = rung.answer is not None and rung.to is None
        if rung.ladder is not None:
            ladders: set[str] = set()
            list(flat(settings, rung.ladder, ladders))
            for repeated in sorted(ladders & tried_ladders):
                problems.add(path, f"the ladder '{repeated}' was tried already", expected="each ladder once")
            tried_ladders |= ladders
            always = any(inner.answer is not None for _, inner in flat(settings, rung.ladder))
        if always and index + 1 < len(ladder):
            above = "the one above" if rung.ladder is None else f"the ladder '{rung.ladder}' above"
            problems.add(("ladders", name, index + 1), f"this rung is never reached: {above} always answers")
        inside = [rung] if rung.ladder is None else [inner for _, inner in flat(settings, rung.ladder)]
        for to, adapter in dict.fromkeys((member.to, member.adapter) for member in inside):
            if to is None:
                continue
            if (to, adapter) in tried:
                problems.warn(
                    path,
                    f"'{to}' was tried already, by rung {tried[to, adapter] + 1} of this ladder",
                    expected="retries there, or another rung here",
                )
            tried.setdefault((to, adapter), index)
