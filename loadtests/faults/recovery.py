"""How long a service took to recover from a fault, by a stated rule. Pure."""

from collections.abc import Sequence

import msgspec

from loadtests.model.run_record import FaultRecord, RunWindow

_BEFORE_S = 30.0
_TOGETHER = 3
_AS_GOOD = 0.95
RULE = (
    f"Time to recovery is from a fault's beginning to the first second from which on the requests of {_TOGETHER} "
    f"seconds together have {_AS_GOOD:.0%} of the share of good requests that the {_BEFORE_S:g} s before the fault had "
    "(the warm-up left out). A fault has an effect if a second that begins before its end has less than that."
)


def with_recovery(
    faults: Sequence[FaultRecord], windows: Sequence[RunWindow], *, warm_up_s: float, window_s: float, end_s: float
) -> tuple[FaultRecord, ...]:
    """The faults with their effect on the windows; `end_s`: of the requests."""
    inside = [window for window in windows if window.begins_s < end_s]
    return tuple([_recovered(fault, inside, warm_up_s, window_s) for fault in faults])


def _recovered(fault: FaultRecord, windows: Sequence[RunWindow], warm_up_s: float, window_s: float) -> FaultRecord:
    begin = max(fault.begin_s - _BEFORE_S, warm_up_s)
    before = _share([each for each in windows if each.begins_s >= begin and each.begins_s + window_s <= fault.begin_s])
    if not before:
        return fault
    enough = _AS_GOOD * before
    after = [each for each in windows if each.begins_s + window_s > fault.begin_s]
    hit = next((n for n, each in enumerate(after) if _is_below(each, enough)), None)
    if hit is None or after[hit].begins_s > fault.end_s:
        return msgspec.structs.replace(fault, share_before=before, had_effect=False)
    recovered = None
    for place in range(hit + 1, len(after) - _TOGETHER + 1):
        share = _share(after[place : place + _TOGETHER])
        if share is not None and share >= enough:
            recovered = max(after[place].begins_s - fault.begin_s, 0.0)
            break
    worst = min(share for each in after[hit:] if (share := _share([each])) is not None)
    return msgspec.structs.replace(
        fault, share_before=before, had_effect=True, share_worst=worst, recovered_after_s=recovered
    )


def _is_below(window: RunWindow, enough: float) -> bool:
    share = _share([window])
    return share is not None and share < enough


def _share(windows: Sequence[RunWindow]) -> float | None:
    """Of good requests, without those whose clients left; None: there were none at all."""
    requests = sum(window.measures.judged for window in windows)
    return sum(window.measures.good for window in windows) / requests if requests else None
