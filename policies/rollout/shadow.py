"""Shadow traffic: decides whether a request is copied to another rung, and compares the answers.

Copies have the lowest priority: none is made for a rung with waiting requests, and a running one is aborted if a
request must wait behind it. They queue in their own tier below all others, for their own tenant.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from config.model.rollout import ShadowSettings
from config.model.table import Bytes, Seconds
from config.model.tenancy import QueueLimits, TenantSettings, TierSettings
from policies.model.load import Load

TENANT = TIER = "(shadows)"
"""Also in the ledger and in /metrics: copies are not billed to a real tenant."""
Dropped = Literal["concurrent", "rung_busy", "rung_down", "shutting_down", "gone"]

_BUSY_KV_USAGE = 0.85
_LIMITS = QueueLimits(wait=Seconds(5), requests=16, tokens=200_000, bytes=Bytes(2**20))


class ShadowAnswer(msgspec.Struct, frozen=True, gc=False):
    """What is compared of a finished answer."""

    digest: bytes
    """Hash of the text of all choices."""
    tokens: int
    took_s: float


class ShadowView(msgspec.Struct):
    """Figures of one shadow since it was configured."""

    running: int = 0
    begun: int = 0
    answered: int = 0
    failed: int = 0
    cut: int = 0
    """Copies aborted because a request had to wait."""
    dropped: dict[str, int] = {}
    """Copies that were not made, by reason."""
    compared: int = 0
    """Pairs in which the copy and the original were answered."""
    same_text: int = 0
    same_length: int = 0
    tokens: int = 0
    """Tokens of the compared copies; the following figures are over compared pairs as well."""
    original_tokens: int = 0
    seconds: float = 0.0
    original_seconds: float = 0.0


class _Pair(msgspec.Struct, eq=False):
    original: ShadowAnswer | None = None
    copy: ShadowAnswer | None = None
    original_over: bool = False
    copy_over: bool = False


class ShadowBook:
    """All shadows. A `begin` that returns None must be followed by one `copy_ended` and one `original_ended`."""

    def __init__(self, settings: Iterable[ShadowSettings]) -> None:
        self._settings: dict[str, ShadowSettings] = {}
        self._counts: dict[str, ShadowView] = {}
        self._pairs: dict[tuple[str, str], _Pair] = {}
        self.closed = False
        """True while the service drains: no more copies are made."""
        self.apply_settings(settings)

    def apply_settings(self, settings: Iterable[ShadowSettings]) -> None:
        """Replace the settings. Shadows of the same name, and those with open pairs, keep their figures."""
        self._settings = {shadow.name: shadow for shadow in settings}
        counted = {*self._settings, *[shadow for shadow, _ in self._pairs]}
        self._counts = {
            **{name: counts for name, counts in self._counts.items() if name in counted},
            **{name: self._counts.get(name) or ShadowView() for name in self._settings},
        }

    def with_copies(
        self, tiers: Mapping[str, TierSettings], tenants: Mapping[str, TenantSettings]
    ) -> tuple[Mapping[str, TierSettings], Mapping[str, TenantSettings]]:
        """A queue's tiers and tenants, plus those of the copies if there are, or may be, any."""
        if not self._settings and not any(counts.running for counts in self._counts.values()):
            return tiers, tenants
        return {**tiers, TIER: shadow_tier(tiers)}, {**tenants, TENANT: TenantSettings(tier=TIER)}

    def begin(self, shadow: str, request_id: str, to: str, load: Load) -> Dropped | None:
        """None if a copy of this request may be sent to the rung; it then counts as running. Else why not."""
        settings = self._settings.get(shadow)
        if settings is None:
            return "gone"
        counts = self._counts[shadow]
        dropped = self._drop_reason(settings, counts, to, load)
        if dropped is not None:
            counts.dropped[dropped] = counts.dropped.get(dropped, 0) + 1
            return dropped
        counts.begun += 1
        counts.running += 1
        self._pairs[shadow, request_id] = _Pair()
        return None

    def copy_ended(self, shadow: str, request_id: str, answer: ShadowAnswer | None, *, cut: bool = False) -> None:
        """The copy has ended. `answer` None: there is none to compare; `cut`: because it was aborted.

        Of several ends of one copy the first counts.
        """
        pair = self._pairs.get((shadow, request_id))
        if pair is None or pair.copy_over:
            return
        counts = self._counts[shadow]
        counts.running -= 1
        if answer is not None:
            counts.answered += 1
        elif cut:
            counts.cut += 1
        else:
            counts.failed += 1
        pair.copy, pair.copy_over = answer, True
        self._compare(shadow, request_id, pair)

    def original_ended(self, shadow: str, request_id: str, answer: ShadowAnswer | None) -> None:
        """The client's request has ended. `answer` None: there was none, or not a complete one."""
        pair = self._pairs.get((shadow, request_id))
        if pair is not None:
            pair.original, pair.original_over = answer, True
            self._compare(shadow, request_id, pair)

    def views(self) -> dict[str, ShadowView]:
        return {
            name: msgspec.structs.replace(counts, dropped=dict(counts.dropped)) for name, counts in self._counts.items()
        }

    def _drop_reason(self, settings: ShadowSettings, counts: ShadowView, to: str, load: Load) -> Dropped | None:
        if self.closed:
            return "shutting_down"
        if counts.running >= settings.concurrent:
            return "concurrent"
        if not load.can_serve(to):
            return "rung_down"
        engine = load.engines.get(to)
        if engine is not None and (engine.waiting or engine.kv_usage > _BUSY_KV_USAGE):
            return "rung_busy"
        return None

    def _compare(self, shadow: str, request_id: str, pair: _Pair) -> None:
        if not (pair.copy_over and pair.original_over):
            return
        del self._pairs[shadow, request_id]
        if pair.copy is None or pair.original is None:
            return
        counts = self._counts[shadow]
        counts.compared += 1
        counts.same_text += pair.copy.digest == pair.original.digest
        counts.same_length += pair.copy.tokens == pair.original.tokens
        counts.tokens += pair.copy.tokens
        counts.original_tokens += pair.original.tokens
        counts.seconds += pair.copy.took_s
        counts.original_seconds += pair.original.took_s


def shadow_tier(tiers: Mapping[str, TierSettings]) -> TierSettings:
    """The tier of the copies, below all of these."""
    return TierSettings(priority=min(tier.priority for tier in tiers.values()) - 1, queue=_LIMITS)
