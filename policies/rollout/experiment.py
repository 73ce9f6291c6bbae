"""Assigns units of traffic to the arms of experiments by hash: stable, and independent between experiments."""

import hashlib
from typing import Literal

import msgspec

from config.model.rollout import CONTROL, ExperimentSettings
from policies.model.features import Features

Unit = Literal["request", "conversation", "user", "tenant"]


class RollBack(msgspec.Struct, frozen=True, gc=False):
    """An experiment was ended: all of its traffic goes to the arm `control`."""

    experiment: str
    text: str
    """Digest of its settings, see `settings_digest`. An experiment with changed settings is another experiment."""
    why: str


def settings_digest(experiment: ExperimentSettings) -> str:
    """A digest of all settings of the experiment."""
    encoded = msgspec.json.encode(experiment, enc_hook=str, order="deterministic")
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()


class Split(msgspec.Struct, frozen=True):
    """How an experiment divides [0, 1) among its arms."""

    name: str
    unit: Unit
    bounds: tuple[tuple[str, float], ...]
    """(arm, upper end of its interval), in order."""

    @classmethod
    def of(cls, experiment: ExperimentSettings) -> "Split":
        """Control first, then by name: independent of the file's order, and a moved boundary moves few units."""
        total = sum(experiment.arms.values())
        upper, bounds = 0.0, []
        for arm, percent in sorted(experiment.arms.items(), key=lambda item: (item[0] != CONTROL, item[0])):
            upper += percent / total
            bounds.append((arm, upper))
        return cls(experiment.name, experiment.unit, tuple(bounds))

    def arm(self, features: Features) -> str | None:
        place = self.place(features)
        if place is None:
            return None
        return next((arm for arm, upper in self.bounds if place < upper), self.bounds[-1][0])

    def place(self, features: Features) -> float | None:
        unit = unit_of(features, self.unit)
        if not unit:
            return None
        digest = hashlib.blake2b(f"{len(self.name)}:{self.name}{unit}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64


def unit_of(features: Features, unit: Unit) -> str:
    """The request's value of the unit; "" if unknown."""
    if unit == "user":
        return f"{features.tenant}/{features.user}" if features.user else ""
    value: str = getattr(features, unit)
    return value
