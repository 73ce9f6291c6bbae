"""What the edge needs of the house: `actors.service.House` is one, and so are the tests' and the benchmark's fakes."""

from collections.abc import Mapping
from typing import Protocol

from actors.api.messages import Decided, Event, InferenceRequest
from actors.api.statistics import HouseStatistics
from actors.request.request_log import RequestLog
from policies.admission.rate_limits import RateLimits


class EngineReadiness(Protocol):
    """One engine's state: loading, ready or failed, and why."""

    @property
    def state(self) -> str: ...  # noqa: D102
    @property
    def why(self) -> str | None: ...  # noqa: D102


class Readiness(Protocol):
    """Whether new work is welcome."""

    @property
    def ready(self) -> bool: ...  # noqa: D102
    @property
    def state(self) -> str: ...  # noqa: D102
    @property
    def engines(self) -> Mapping[str, EngineReadiness]: ...  # noqa: D102


class ModelCard(Protocol):
    """A name that clients may ask for."""

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def description(self) -> str: ...  # noqa: D102
    @property
    def created(self) -> int: ...  # noqa: D102
    @property
    def max_model_len(self) -> int | None: ...  # noqa: D102


class Exchange(Protocol):
    """One answer under way: lists of events until `Done` or `Failed`, or `Refusal` before the first content."""

    @property
    def decided(self) -> Decided: ...  # noqa: D102
    async def __anext__(self) -> list[Event]: ...

    def close(self) -> None:
        """Synchronous, idempotent; must be called however it ends."""
        ...


class House(Protocol):
    """All that the edge sees."""

    async def open(self, request: InferenceRequest) -> Exchange:
        """Take in a request. Raises `Refusal`."""
        ...

    @property
    def policy(self) -> str:
        """Digest of the policy that decides now."""
        ...

    @property
    def request_log(self) -> RequestLog:
        """For requests that do not come to `open`; the house writes the lines of all others."""
        ...

    def rate_limits(self, key: str | None) -> RateLimits | None:
        """What is left of the limits of whoever has this key; None: it has none, or the key is not known."""
        ...

    @property
    def keyless(self) -> bool:
        """Nobody needs a key."""
        ...

    def check_key(self, key: str | None) -> None:
        """Raises `Refusal` for a key that is not known."""
        ...

    def check_scraper(self, key: str | None) -> None:
        """Raises `Refusal` for a key that does not open `/metrics`."""
        ...

    def known_tenant(self, key: str | None) -> str:
        """Whose key this is; empty if it is nobody's."""
        ...

    def tiers_above(self, key: str | None) -> int:
        """How many tiers come before the key's. Raises `Refusal` for a key that is not known."""
        ...

    def readiness(self) -> Readiness: ...  # noqa: D102
    def models(self) -> tuple[ModelCard, ...]: ...  # noqa: D102
    def statistics(self) -> HouseStatistics: ...  # noqa: D102
