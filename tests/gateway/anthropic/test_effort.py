"""What `thinking` and `output_config.effort` become for upstreams and for engines."""

import msgspec
import pytest

from gateway.anthropic.effort import Reasoning, Thinking, reasoning_of
from gateway.errors import BadField


def thinking(kind: str, **more: object) -> Thinking:
    return msgspec.convert({"type": kind, **more}, Thinking)


@pytest.mark.parametrize(
    ("asked", "effort", "expected"),
    [
        (None, None, Reasoning()),
        (None, "high", Reasoning()),
        (None, "low", Reasoning("low", "low")),
        (thinking("disabled"), None, Reasoning("none", shown=False)),
        (thinking("disabled"), "high", Reasoning("none", shown=False)),
        (thinking("adaptive"), None, Reasoning()),
        (thinking("adaptive"), "high", Reasoning("high")),
        (thinking("adaptive", display="summarized"), "max", Reasoning("max", "max")),
        (thinking("adaptive", display="omitted"), None, Reasoning(shown=False)),
        (thinking("enabled", budget_tokens=1024), None, Reasoning("low", budget=1024)),
        (thinking("enabled", budget_tokens=4095), None, Reasoning("low", budget=4095)),
        (thinking("enabled", budget_tokens=4096), None, Reasoning("medium", budget=4096)),
        (
            thinking("enabled", budget_tokens=16384, display="omitted"),
            None,
            Reasoning("high", budget=16384, shown=False),
        ),
        (thinking("enabled", budget_tokens=20000), "low", Reasoning("low", "low", 20000)),
    ],
)
def test_what_is_asked_for(asked: Thinking | None, effort: str | None, expected: Reasoning) -> None:
    assert reasoning_of(asked, effort, 32000) == expected
    assert reasoning_of(asked, effort, None) == expected


@pytest.mark.parametrize(
    ("asked", "effort", "field"),
    [
        (None, "most", "output_config.effort"),
        (thinking("disabled"), "low", "output_config.effort"),
        (thinking("enabled"), None, "thinking.budget_tokens"),
        (thinking("enabled", budget_tokens=1023), None, "thinking.budget_tokens"),
        (thinking("enabled", budget_tokens=2000), None, "thinking.budget_tokens"),
        (thinking("adaptive", budget_tokens=2000), None, "thinking.budget_tokens"),
        (thinking("between_tools"), None, "thinking.type"),
        (thinking("adaptive", display="full"), None, "thinking.display"),
    ],
)
def test_what_cannot_be(asked: Thinking | None, effort: str | None, field: str) -> None:
    with pytest.raises(BadField) as refused:
        reasoning_of(asked, effort, 2000)
    assert refused.value.body.param == field
