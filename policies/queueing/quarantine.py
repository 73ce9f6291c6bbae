"""Requests that were running when engines crashed: suspects, which run alone, and those that are refused.

All requests that an engine loses in a crash become suspects, as any of them may be the cause. A suspect is started on
an idle replica only, and nothing is started beside it for the first `alone` seconds: so the cause crashes alone. One
that comes to its end is a suspect no more; one that is lost in `crashes` crashes is quarantined, and refused until
`keep` has passed. It is not tried twice on the same replica while another one is up, as that replica may be broken.
Requests with the same content count as one.

Pure; contents are digests, and no text is kept. Suspects and quarantined contents are bounded by `entries` each; beyond
it the oldest is forgotten.
"""

from collections.abc import Iterable

import msgspec

from config.model.failures import QuarantineSettings
from policies.errors import IntegrityError


class QuarantineStatistics(msgspec.Struct, frozen=True):
    """Counts of contents."""

    suspects: int = 0
    quarantined: int = 0
    quarantined_total: int = 0


class _Suspect(msgspec.Struct):
    crashes: int
    until: float
    lost_by: tuple[str, int]


class Quarantine:
    """`now` never runs backwards. Owned by the task that dispatches jobs; others may read `holds`."""

    def __init__(self, settings: QuarantineSettings = QuarantineSettings()) -> None:  # noqa: B008  (frozen)
        self._settings = settings
        self._suspects: dict[bytes, _Suspect] = {}
        """The one that was lost last is the last."""
        self._held: dict[bytes, float] = {}
        """By content: until when."""
        self._total = 0

    def __bool__(self) -> bool:
        """False: there is neither a suspect nor a quarantined request, so that no digest need be made."""
        return bool(self._suspects or self._held)

    @property
    def alone_s(self) -> float:
        """How long nothing is started beside a suspect."""
        return float(self._settings.alone)

    @property
    def message(self) -> str:
        """For the client of a quarantined request."""
        minutes = max(round(self._settings.keep / 60), 1)
        return (
            f"This request was running in {self._settings.crashes} crashes of engines, and is not run again for about "
            f"{minutes} min. Change the request; if it must run as it is, ask the operator of this gateway."
        )

    def apply_settings(self, settings: QuarantineSettings) -> None:
        """What is held already keeps its time."""
        self._settings = settings
        self._bound()

    def crashed(self, contents: Iterable[bytes], now: float, replica: tuple[str, int] = ("", 0)) -> list[bytes]:
        """This replica of an engine crashed while it ran these: each content counts once.

        Returns those that are quarantined by it.
        """
        self._sweep(now)
        caught = []
        for content in dict.fromkeys(contents):
            if content in self._held:
                continue
            before = self._suspects.pop(content, None)
            crashes = (before.crashes if before is not None else 0) + 1
            if crashes < self._settings.crashes:
                self._suspects[content] = _Suspect(crashes, now + self._settings.keep, replica)
                continue
            self._held[content] = now + self._settings.keep
            self._total += 1
            caught.append(content)
        self._bound()
        return caught

    def ended(self, content: bytes) -> None:
        """It ran and crashed nothing: it is no suspect any more. One that is quarantined stays so."""
        self._suspects.pop(content, None)

    def is_suspect(self, content: bytes, now: float) -> bool:
        suspect = self._suspects.get(content)
        return suspect is not None and now < suspect.until

    def lost_by(self, content: bytes) -> tuple[str, int]:
        """The engine and the number of its replica that crashed last with this suspect."""
        return self._suspects[content].lost_by

    def holds(self, content: bytes, now: float) -> bool:
        """Whether it is quarantined."""
        return now < self._held.get(content, now)

    def statistics(self, now: float) -> QuarantineStatistics:
        suspects = sum([now < each.until for each in self._suspects.values()])
        held = sum([now < until for until in self._held.values()])
        return QuarantineStatistics(suspects, held, self._total)

    def check_integrity(self) -> None:
        """Raise `IntegrityError` if a bound is passed, or a content is both suspect and quarantined."""
        if max(len(self._suspects), len(self._held)) > self._settings.entries:
            raise IntegrityError("the quarantine holds more than it may")
        if not self._suspects.keys().isdisjoint(self._held):
            raise IntegrityError("a quarantined content is still a suspect")

    def _sweep(self, now: float) -> None:
        self._suspects = {content: each for content, each in self._suspects.items() if now < each.until}
        self._held = {content: until for content, until in self._held.items() if now < until}

    def _bound(self) -> None:
        while len(self._suspects) > self._settings.entries:
            del self._suspects[next(iter(self._suspects))]
        while len(self._held) > self._settings.entries:
            del self._held[next(iter(self._held))]
