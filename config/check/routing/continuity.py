"""Checks that rungs can continue each other's answers where a cascade or a route requires it.

A rung can continue from tokens of another with the same tokenizer, and an upstream from text. Otherwise mode "verified"
is useless, which is an error; "window" acts as "gate", and a "continue" that the file asks for as "error", which is a
warning.
"""

from collections.abc import Mapping

from config.check.names import emitting, flat, ladder_of, reached_rungs, rungs_of
from config.model.settings import Settings
from config.problems.problems import Problems

_EXPECTED = "rungs with the same tokenizer.json, or upstreams with 'tokenizer' and supports = [\"continue\"]"


def check_continuity(settings: Settings, problems: Problems, digests: Mapping[str, str] | None) -> None:
    """Check cascades and routes. `digests`: of the engines' tokenizer files that could be read; None: not computed."""
    all_rungs = set(rungs_of(settings))
    known: dict[str, str | None] = {name: None if digests is None else digests.get(name) for name in settings.engines}

    def may_continue(one: str, other: str) -> bool:
        """False only if `other` certainly cannot continue from the tokens of `one`."""
        # The engines whose tokenizers the rungs use; None: unknown.
        first, second = (
            rung if rung in settings.engines else settings.upstreams[rung].tokenizer for rung in (one, other)
        )
        if first is None or second is None or not _can_continue(settings, other):
            return False
        if first == second:
            return True
        digest, another = known.get(first), known.get(second)
        return digest is None or another is None or digest == another

    for path, cascade in emitting(settings):
        are_known = len(cascade.stages) == len(set(cascade.stages)) == 2 and all_rungs.issuperset(cascade.stages)
        if cascade.emit.mode == "gate" or not are_known:
            continue
        if not may_continue(*cascade.stages):
            problems.add(
                (*path, "emit", "mode"),
                f'the large stage cannot continue the small one\'s tokens, which "{cascade.emit.mode}" requires: '
                f"the tokenizers of {' and '.join(cascade.stages)} differ or are unknown",
                expected=f'{_EXPECTED}; or mode = "gate"',
                severity="error" if cascade.emit.mode == "verified" else "warning",
            )
    for index, route in enumerate(settings.routes):
        place = ("routes", index, "midstream")
        if route.midstream != "continue" or not problems.is_written(place):
            continue  # the default promises what the rungs can do
        rungs = reached_rungs(settings, route)
        if not rungs or not all_rungs.issuperset(rungs):
            continue
        if not settings.engines.keys().isdisjoint(rungs):
            continue  # an engine continues after its restart, or on another replica
        # An upstream that continues from text can do so after any rung.
        from_text = {rung for rung in rungs if rung in settings.upstreams and _can_continue(settings, rung)}
        ladder = flat(settings, ladder_of(settings, route) or "")
        asked_again = any(rung.to in from_text and rung.retries for _, rung in ladder)
        if not (from_text and len(rungs) > 1) and not asked_again:
            problems.warn(
                place,
                f'"continue" needs a second rung that can continue the answer of the first, or an upstream that '
                f"continues its own and has retries, and there is none among {', '.join(rungs)}",
                expected=f'{_EXPECTED}; or midstream = "error"',
            )


def _can_continue(settings: Settings, rung: str) -> bool:
    return rung in settings.engines or "continue" in settings.upstreams[rung].supports
