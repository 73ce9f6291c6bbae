"""Which rungs answer a conversation with images, sounds or files, and what is said where none does."""

from pathlib import Path

import pytest

from config.load import parse_settings
from policies.errors import CannotServe
from policies.model.features import Features, described_requirements
from policies.model.load import Load
from policies.model.plan import Plan
from policies.routing.policy import Policy, make_plan

TEXT = """
schema = 1
[engines.small]
model = "small"
[upstreams.blind]
urls = ["http://blind/v1"]
[upstreams.sees]
urls = ["http://sees/v1"]
supports = ["vision"]
[upstreams.reads]
urls = ["http://reads/v1"]
supports = ["vision", "files", "audio"]
[models.all]
[models.steps]
[models.local]
[[routes]]
name = "local"
when = { model = ["local"] }
use = { ladder = "local" }
[[routes]]
name = "steps"
when = { model = ["steps"] }
use = { cascade = "upward" }
[[routes]]
name = "all"
use = { ladder = "all" }
[cascades.upward]
stages = ["small", "sees"]
defer = { threshold = 1.0 }
on_failure = "all"
[[ladders.local]]
to = "small"
[[ladders.local]]
answer = "busy"
[[ladders.all]]
to = "small"
[[ladders.all]]
to = "blind"
[[ladders.all]]
to = "sees"
[[ladders.all]]
to = "reads"
[[ladders.all]]
answer = "busy"
[prices]
sees = { input = 5, output = 5 }
reads = { input = 9, output = 9 }
[[shadows]]
name = "beside"
to = "blind"
route = ["all"]
share = 1.0
[[shadows]]
name = "seeing"
to = "sees"
route = ["all"]
share = 1.0
"""
POLICY = Policy.compile(parse_settings(TEXT, Path("/etc/x.toml")))
CHAT = "/v1/chat/completions"


def plan(model: str, *has: str, **more: object) -> Plan:
    features = Features(
        model=model, tenant="anonymous", tier="default", prompt_tokens=10, max_tokens=20, has=frozenset(has),
        requirements=described_requirements(CHAT, has), request="r1", **more,
    )  # fmt: skip
    return make_plan(POLICY, features, Load(), 0.0)


@pytest.mark.parametrize(
    ("model", "has", "rungs"),
    [
        ("all", ["tools"], ["small", "blind", "sees", "reads", None]),
        ("all", ["image"], ["sees", "reads", None]),
        ("all", ["file"], ["reads", None]),
        ("all", ["image", "audio"], ["reads", None]),
        ("steps", ["image"], ["sees", "reads", None]),
        ("steps", ["file", "image"], ["reads", None]),
    ],
)
def test_only_rungs_that_take_all_of_it_are_left(model: str, has: list[str], rungs: list[str | None]) -> None:
    made = plan(model, *has)
    assert [rung.to for rung in made.rungs] == rungs
    assert (made.cascade is None) == (model == "all" or "tools" not in has)


def test_the_plan_says_what_is_left_out() -> None:
    assert plan("all", "image").reasons[-2:] == (
        "small is left out: it takes no images",
        "blind is left out: it takes no images",
    )
    assert "small is left out: it takes no sounds and files" in plan("all", "file", "audio").reasons


def test_copies_go_only_where_they_are_taken() -> None:
    assert [shadow.name for shadow in plan("all").shadows] == ["beside", "seeing"]
    assert [shadow.name for shadow in plan("all", "image").shadows] == ["seeing"]
    assert plan("all", "file").shadows == ()


def test_a_spent_budget_leaves_the_cheapest_that_takes_it() -> None:
    made = plan("steps", "image", budget_spent=True)
    assert [rung.to for rung in made.rungs] == ["sees", None]
    assert "budget_small_only" in made.degraded


def test_where_none_is_left_the_models_that_take_it_are_named() -> None:
    with pytest.raises(CannotServe) as refused:
        plan("local", "image")
    assert str(refused.value) == "The model 'local' takes no images. These models take them: all, steps."
    assert (refused.value.param, refused.value.code) == ("messages", "media_not_supported")


def test_or_that_there_are_none() -> None:
    alone = TEXT.replace('supports = ["vision", "files", "audio"]\n', "").replace('supports = ["vision"]\n', "")
    policy = Policy.compile(parse_settings(alone, Path("/etc/x.toml")))
    features = Features(
        model="all", tenant="anonymous", tier="default", prompt_tokens=10, max_tokens=20,
        requirements=described_requirements(CHAT, ["image", "file"]),
    )  # fmt: skip
    with pytest.raises(
        CannotServe, match=r"takes no images and files\. No model of this server does: leave them out\."
    ):
        make_plan(policy, features, Load(), 0.0)
    assert policy.digest != POLICY.digest
