"""What an experiment counts, and whom it keeps together."""

from typing import Any

import pytest
import trio

from actors.api.request import (
    ChatMessage,
    ChatPrompt,
    Credentials,
    EmbeddingParams,
    InferenceRequest,
    ParsedBody,
    TextPrompt,
)
from actors.routing.features import features_of
from config.model.tenancy import TenantSettings
from engine.errors import EngineError
from engine.model.vectors import EmbeddingSizes
from engine.sampling.params import SamplingParams
from policies.rollout.experiment import Split
from policies.routing.policy import Policy
from tests.actors.fakes import CONFIG, Stage, settings_of, stage

GUARDED = (
    CONFIG.replace("[tiers.default]", '[tiers.default]\nslo = { ttft = "1s" }')
    + """
[[experiments]]
name = "try"
route = ["small", "gate"]
arms = { control = 50, b = 50 }
override.b = { "cascades.window.defer.threshold" = 2.0 }
unit = "request"
guard = { metrics = ["ttft_miss"] }
"""
)


def slow(service: Stage) -> None:
    service.worker("small").step_s = 1.5


def broken(service: Stage) -> None:
    def fail(number: int, batch: Any) -> None:
        raise EngineError("broken", "for the test")

    service.on_step |= {"small": fail, "large": fail}


def quick(service: Stage) -> None:
    """Thirty steps of 0.1 s: the last token comes late, the first one does not."""


@pytest.mark.parametrize(
    ("options", "before", "counted"),
    [
        ({"streamed": True}, quick, (0, 1)),
        ({"streamed": False}, quick, (0, 1)),
        ({"streamed": False, "n": 2}, quick, (0, 1)),
        ({"streamed": True}, slow, (1, 1)),
        ({"streamed": False}, slow, (1, 1)),
        ({"streamed": False, "model": "whole"}, slow, (1, 1)),
        ({"streamed": True}, broken, (1, 1)),
        ({"streamed": False}, broken, (1, 1)),
        ({"streamed": False, "embedding": EmbeddingParams()}, quick, (0, 1)),
        ({"streamed": False, "embedding": EmbeddingParams()}, slow, (1, 1)),
    ],
)
async def test_a_late_first_token_counts_however_the_answer_goes_out(autojump_clock, options, before, counted):
    encoders = {"small": EmbeddingSizes(8, ())} if "embedding" in options else {}
    limit = {} if encoders else {"max_tokens": 30, "ignore_eos": True}
    async with stage({}, settings=GUARDED, encoders=encoders) as service:
        before(service)
        await service.ask(**{"model": "small", **limit, **options})
        service.on_step.clear()
        await trio.sleep(1)
        arms = service.service.statistics().experiments["try"].arms.values()
        assert [arm.metrics["ttft_miss"] for arm in arms if arm.requests] == [counted]


def chat(*texts: str) -> ChatPrompt:
    """Turns of user and assistant in turn, after a system message."""
    roles = ("user", "assistant")
    said = tuple(ChatMessage(roles[place % 2], text) for place, text in enumerate(texts))  # type: ignore[arg-type]
    return ChatPrompt((ChatMessage("system", "Be kind."), *said))


POLICY = Policy.compile(
    settings_of(CONFIG + GUARDED[GUARDED.index("[[experiments]]") :].replace('unit = "request"', ""))
)
SPLIT = Split("e", "conversation", (("control", 0.5), ("b", 1.0)))


def conversation(number: int, *texts: str, header: str = "", prompt: Any = None, **fields: Any) -> str:
    request = InferenceRequest(
        request_id=f"r{number}",
        credentials=Credentials(headers=((b"x-penstock-conversation", header.encode()),) if header else ()),
        body=ParsedBody(
            model="small", prompts=(prompt or chat(*texts),), params=SamplingParams(max_tokens=1), **fields
        ),
        arrived_at=0.0,
    )
    return features_of(request, POLICY, "acme", TenantSettings(), [5]).conversation


@pytest.mark.parametrize(
    "who",
    [
        {"user": "u{}"},
        {"cache_key": "k{}"},
        {"conversation": "c{}"},
        {"header": "c{}"},
        {},
        {"prompt": TextPrompt("Hello"), "user": "u{}"},
        {"prompt": TextPrompt("Hello")},
    ],
)
def test_a_hundred_with_one_opener_are_a_hundred(who) -> None:
    def of(number: int) -> dict[str, Any]:
        return {name: each.format(number) if isinstance(each, str) else each for name, each in who.items()}

    units = [conversation(number, "Hello", **of(number)) for number in range(100)]
    assert len(set(units)) == 100
    arms = [SPLIT.arm(features) for features in map(_features, units)]
    assert 25 < arms.count("b") < 75


@pytest.mark.parametrize(
    ("who", "since"),
    [({"user": "u"}, 0), ({"cache_key": "k"}, 0), ({"conversation": "c"}, 0), ({"header": "c"}, 0), ({}, 1)],
)
def test_the_turns_of_a_conversation_are_one(who, since: int) -> None:
    """`since`: without any name the first turn stands for itself."""
    said = ["Hello", "Hi!", "How much is it?", "Two.", "And tomorrow?"]
    units = [conversation(upto, *said[:upto], **who) for upto in (1, 3, 5)]
    assert len(set(units[since:])) == 1


def test_another_conversation_of_the_same_user_is_another() -> None:
    said = ["Hello", "Hi!", "How much is it?"]
    assert conversation(1, *said, user="u") != conversation(2, "Good day", "Hi!", "How much is it?", user="u")
    assert conversation(1, *said, user="u") != conversation(2, *said, user="v")
    assert conversation(1, *said) != conversation(2, "Hello", "Hey.", "How much is it?")


def _features(unit: str) -> Any:
    request = InferenceRequest(
        request_id="r",
        body=ParsedBody(model="small", prompts=(chat("x"),), params=SamplingParams(max_tokens=1), conversation=unit),
        arrived_at=0.0,
    )
    return features_of(request, POLICY, "acme", TenantSettings(), [5])
