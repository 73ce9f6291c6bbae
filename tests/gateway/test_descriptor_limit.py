"""The limit of open files: as high as the settings need, if the system permits it."""

import resource

import pytest

from gateway.descriptor_limit import allow_descriptors, descriptors_needed
from tests.actors.fakes import CONFIG, settings_of

UPSTREAM = """
[upstreams.cloud]
urls = ["http://127.0.0.1:1/v1"]
concurrent = 500
"""


def test_what_the_settings_need() -> None:
    few, more = descriptors_needed(settings_of(CONFIG)), descriptors_needed(settings_of(CONFIG + UPSTREAM))
    assert (few > 1016, more) == (True, few + 500)


@pytest.mark.parametrize(
    ("soft", "hard", "allowed", "asked"),
    [
        (2000, 4000, 1500, None),
        (-1, -1, 1500, None),
        (1024, 4000, 1500, (1500, 4000)),
        (1024, -1, 1500, (1500, -1)),
        (256, 1024, 1024, (1024, 1024)),
        (1024, 1024, 1024, (1024, 1024)),
    ],
)
def test_what_the_system_permits(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, allowed: int, asked: tuple[int, int] | None
) -> None:
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: calls.append(limits))
    assert allow_descriptors(1500) == allowed
    assert calls == ([] if asked is None else [asked])
