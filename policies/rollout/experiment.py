"""Which arm of an experiment a unit of traffic belongs to: sticky, and independent between experiments."""

import hashlib
from typing import Literal

import msgspec

from config.model.rollout import ExperimentSettings
from policies.model.features import Features

CONTROL = "control"
Unit = Literal["request", "conversation", "user", "tenant"]


class RollBack(msgspec.Struct, frozen=True, gc=False):
    """An experiment is over: all of its traffic is control's."""

    experiment: str
    text: str
    """Which text of it: see `text_of`. With another text it is another experiment."""
    why: str


def text_of(experiment: ExperimentSettings) -> str:
    """A digest of all that the configuration says of it."""
    encoded = msgspec.json.encode(experiment, enc_hook=str, order="deterministic")
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()


class Split(msgspec.Struct, frozen=True):
    """An experiment's arms as upper ends of shares of [0, 1)."""

    name: str
    unit: Unit
    bounds: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, experiment: ExperimentSettings) -> "Split":
        """Control first, then by name, wherever the file has them: moving a boundary moves only the units beside it."""
        total = sum(experiment.arms.values())
        upper, bounds = 0.0, []
        for arm, percent in sorted(experiment.arms.items(), key=lambda each: (each[0] != CONTROL, each[0])):
            upper += percent / total
            bounds.append((arm, upper))
        return cls(experiment.name, experiment.unit, tuple(bounds))

    def arm(self, features: Features) -> str | None:
        """None: the request does not say which unit it belongs to, and takes no part."""
        place = self.place(features)
        if place is None:
            return None
        for arm, upper in self.bounds:
            if place < upper:
                return arm
        return self.bounds[-1][0]

    def place(self, features: Features) -> float | None:
        """Where in [0, 1) the unit's hash lies; None: see `arm`."""
        unit = unit_of(features, self.unit)
        return _place(self.name, unit) if unit else None


def unit_of(features: Features, unit: Unit) -> str:
    """The request's value of the unit; "" if unknown."""
    match unit:
        case "request":
            return features.request
        case "conversation":
            return features.conversation
        case "user":
            return f"{features.tenant}/{features.user}" if features.user else ""
        case "tenant":
            return features.tenant


def _place(experiment: str, unit: str) -> float:
    """0 <= place < 1, uniform over units."""
    digest = hashlib.blake2b(f"{len(experiment)}:{experiment}{unit}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
