"""The same requests, decided by the server, by the simulation and by `policy explain`: the same plan, refusal, reserve.

The server is a real one on the test's clock; the simulation replays what the server's own recorder wrote; `policy
explain` reads the body that the client sent, with the flags that say who asks.
"""

import argparse
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from actors.api.errors import Refusal
from actors.api.request import InferenceRequest
from actors.kernel.actor import Mailbox
from actors.recording.recorder import RecordedRequest, Recording, append
from config.load import parse_settings
from config.model.settings import Settings
from engine.model.vectors import EmbeddingSizes
from gateway.cli.policy.described_request import described, request_of_body
from gateway.cli.policy.request_flags import add_flags
from gateway.profiling.profile import EngineProfile, Profile, StepCost
from gateway.simulation.simulated_request import SimulatedRequest
from gateway.simulation.world import World
from policies.admission.keys import RANDOM_BYTES, new_key
from policies.authoring.decision import Decider
from policies.authoring.explanation import Explanation, explain
from policies.model.backends import Backends, EmbeddingModel
from policies.model.features import Features
from policies.model.plan import Plan
from policies.records.trace import TraceRequest, read_trace
from tests.actors.fakes import Stage, stage
from tests.actors.upstream.network import Network
from tests.actors.upstream.network import says as upstream_says

LENGTHS = {"small": 256, "large": 512, "tiny": 64, "mini": 48}
SIZES = EmbeddingSizes(8, (4,))
TENANTS = ("rich", "slow", "refused", "downgraded", "stingy", "hopeless")
KEYS = {name: new_key(name, bytes(range(number, number + RANDOM_BYTES))) for number, name in enumerate(TENANTS)}
POLICY = """
schema = 1
[ledger]
path = ":memory:"
[engines.small]
model = "small"
[engines.large]
model = "large"
[engines.tiny]
model = "tiny"
[engines.mini]
model = "mini"
[upstreams.cloud]
urls = ["http://a/v1"]
model = "llama"
[upstreams.near]
urls = ["http://a/v1"]
model = "llama"
tokenizer = "large"
context = 300
supports = ["continue", "vision"]
[media]
image_tokens = 20
[models.chat]
[models.drafted]
[models.cloud]
[models.near]
[models.capped]
[models.brief]
[models.mini]
[models.mixed]
[models.ladder]
[models.shadowed]
[models.none]
[prices]
small = { input = 100_000, output = 200_000 }
large = { input = 1_000_000, output = 2_000_000, cached_input = 250_000 }
tiny = { input = 10_000, output = 20_000 }
cloud = { input = 3_000_000, output = 9_000_000 }
mini = { input = 50_000, output = 0 }
[tiers.gold]
priority = 2
slo = { ttft = "500ms" }
[tiers.low]
[tenants.rich]
tier = "gold"
budget = { amount = 1_000_000, per = "day" }
[tenants.slow]
tier = "low"
[tenants.refused]
tier = "gold"
budget = { amount = 20, per = "day" }
[tenants.downgraded]
tier = "gold"
budget = { amount = 20, per = "month", when_spent = "downgrade", downgrade_to = "low" }
[tenants.stingy]
tier = "gold"
budget = { amount = 20, per = "hour", when_spent = "small_only" }
[tenants.hopeless]
tier = "gold"
budget = { amount = 0.001, per = "hour", when_spent = "small_only" }
[signals.hard]
complexity = { at_least = 0.75 }
[[routes]]
name = "none"
when = { model = ["none"], tag = ["never"] }
use = { ladder = "ladder" }
[[routes]]
name = "embeddings"
when = { model = ["mini", "mixed"] }
use = { ladder = "mixed" }
[[routes]]
name = "drafted"
when = { model = ["drafted"], tier = ["gold"] }
use = { cascade = "drafted" }
[[routes]]
name = "cloud"
when = { model = ["cloud"] }
use = { ladder = "cloud-first" }
[[routes]]
name = "near"
when = { model = ["near"] }
use = { cascade = "near" }
[[routes]]
name = "capped"
when = { model = ["capped"] }
use = { cascade = "window" }
caps = { output_tokens = 30 }
[[routes]]
name = "brief"
when = { model = ["brief"] }
use = { ladder = "tiny-first" }
caps = { output_tokens = 16 }
[[routes]]
name = "shadowed"
when = { model = ["shadowed"] }
use = { ladder = "ladder" }
[[routes]]
name = "vip"
when = { tag = ["vip"] }
use = { cascade = "gate" }
deadlines = { ttft = "3s", total = "9s", queue = "1s", stall = "2s" }
midstream = "continue"
[[routes]]
name = "red"
when = { header = { x-team = ["red"] } }
use = { ladder = "cloud-first" }
[[routes]]
name = "tools"
when = { has = ["tools"], language = ["de"] }
use = { ladder = "ladder" }
[[routes]]
name = "german"
when = { language = ["de"] }
use = { ladder = "large-only" }
[[routes]]
name = "code"
when = { code = { at_least = 0.5 } }
use = { ladder = "large-only" }
[[routes]]
name = "ladder"
when = { model = ["ladder"] }
use = { ladder = "ladder" }
[[routes]]
name = "long"
when = { prompt_tokens = { at_least = 215 } }
use = { cascade = "gate" }
[[routes]]
name = "low"
when = { tier = ["low"] }
use = { ladder = "tiny-first" }
[[routes]]
name = "nearly-spent"
when = { budget_used = { at_least = 0.4 } }
use = { ladder = "tiny-first" }
[[routes]]
name = "rest"
when = { not = { model = ["none"] } }
use = { cascade = "window" }
[cascades.window]
stages = ["small", "large"]
defer = { threshold = 1.0 }
emit = { mode = "window", window = 3 }
skip_to_large = { signal = ["hard"] }
on_failure = "large-only"
[cascades.gate]
stages = ["small", "large"]
defer = { statistic = "joint_margin", threshold = 0.3 }
on_failure = "ladder"
atomic = []
[cascades.drafted]
stages = ["small", "large"]
emit = { mode = "verified", draft_tokens = 16 }
on_failure = "large-only"
[cascades.near]
stages = ["small", "near"]
defer = { threshold = 1.0 }
emit = { mode = "window", window = 3 }
on_failure = "large-only"
[[ladders.ladder]]
to = "large"
retries = 1
[[ladders.ladder]]
to = "tiny"
mark = "degraded"
[[ladders.ladder]]
answer = "Busy."
[[ladders.large-only]]
to = "large"
[[ladders.tiny-first]]
to = "tiny"
[[ladders.tiny-first]]
to = "small"
[[ladders.cloud-first]]
to = "cloud"
[[ladders.cloud-first]]
to = "small"
[[ladders.mixed]]
to = "mini"
[[ladders.mixed]]
to = "large"
[[experiments]]
name = "thresholds"
route = ["rest"]
unit = "tenant"
arms = { control = 50, lower = 50 }
override.lower = { "cascades.window.defer.threshold" = 0.5 }
[[shadows]]
name = "copy"
route = ["shadowed"]
to = "small"
share = 1.0
"""


def settings() -> Settings:
    keys = "".join(
        f'[[keys]]\nid = "{key.settings.id}"\ntenant = "{key.settings.tenant}"\nhash = "{key.settings.hash}"\n'
        for key in KEYS.values()
    )
    return parse_settings(POLICY + keys, Path("/nowhere/policy.toml"))


@dataclass(frozen=True)
class Ask:
    """One request: what the client sends, and who it is."""

    body: dict[str, Any]
    tenant: str = "rich"
    tags: tuple[str, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    refused: str = ""
    """The code that all three must give; "": none."""
    because: str = ""
    """Part of a reason that the plan must give."""
    simulated: bool = True
    """False: a profile knows of encoders that they are there, neither how long nor how wide they are."""

    @property
    def path(self) -> str:
        if "messages" in self.body:
            return "/v1/chat/completions"
        return "/v1/completions" if "prompt" in self.body else "/v1/embeddings"


IMAGE = [{"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}]


def chat(text: Any, *earlier: str, model: str = "chat", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": each} for each in (*earlier, text)], **fields}


def tokens(*counts: int, model: str = "chat", **fields: Any) -> dict[str, Any]:
    prompts = [list(range(5, 5 + count)) for count in counts]
    return {"model": model, "prompt": prompts if len(prompts) > 1 else prompts[0], **fields}


def embed(*counts: int, model: str = "mini", **fields: Any) -> dict[str, Any]:
    return {"model": model, "input": [list(range(5, 5 + count)) for count in counts], **fields}


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
JSON = {"response_format": {"type": "json_object"}}
SCHEMA = {
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "a", "schema": {"type": "object", "properties": {"a": {"type": "integer"}}}},
    }
}
GERMAN = "Bitte schreibe mir einen kurzen Text, der nicht zu lang ist und von der See und den Bergen handelt."
CODE = "```python\ndef add(a, b):\n    return a + b\n\nprint(add(1, 2))\n```"
HARD = "Prove, step by step, that it must not be exactly 42, without only using at least 4 and at most 12 lemmas."
LOGPROBS = {"echo": True, "logprobs": 1}
TOO_LONG = "context_length_exceeded"

ASKED: dict[str, Ask] = {
    # who asks, tags and headers
    "plain": Ask(chat("hi", max_tokens=10)),
    "another arm, another tier": Ask(chat("hi", max_tokens=10), "slow"),
    "tagged": Ask(chat("hi", max_tokens=10), tags=("vip",)),
    "tagged with more": Ask(chat("hi", max_tokens=10), "slow", tags=("a", "vip", "z")),
    "another tag": Ask(chat("hi", max_tokens=10), tags=("other",)),
    "a header": Ask(chat("hi", max_tokens=10), headers={"x-team": "red"}),
    "a header with another value": Ask(chat("hi", max_tokens=10), headers={"x-team": "blue"}),
    "streamed": Ask(chat("hi", max_tokens=10, stream=True)),
    "nobody takes it": Ask(chat("hi", model="none", max_tokens=10), "refused", refused="no_route"),
    "no such model": Ask(chat("hi", model="chatt", max_tokens=10), refused="model_not_found"),
    # languages, code, complexity, turns
    "german": Ask(chat(GERMAN, max_tokens=10)),
    "german with tools": Ask(chat(GERMAN, max_tokens=10, tools=[TOOL])),
    "code": Ask(chat(CODE, max_tokens=10)),
    "hard": Ask(chat(HARD, max_tokens=10), because="skips to large"),
    "several turns": Ask(chat("and now?", "hi", "what is it?", max_tokens=10)),
    # lengths
    "long": Ask(tokens(220, max_tokens=10)),
    "max_tokens unsaid": Ask(chat("hi")),
    "max_tokens unsaid, long": Ask(chat("qz" * 120)),
    "max_tokens of the API's default": Ask(tokens(250)),
    "just fits": Ask(tokens(500, max_tokens=12)),
    "one too many": Ask(tokens(500, max_tokens=13), refused=TOO_LONG),
    "longer than any rung": Ask(tokens(600), refused=TOO_LONG),
    "longer than the small model": Ask(tokens(300, max_tokens=5)),
    "longer than the first rung": Ask(tokens(100, model="brief", max_tokens=5)),
    "longer than all rungs of its route": Ask(tokens(300, model="brief"), refused=TOO_LONG),
    "longer than an upstream's context": Ask(tokens(290, model="near", max_tokens=20)),
    "an upstream of unknown length takes it": Ask(tokens(600, model="cloud")),
    "a window that the large stage cannot go on after": Ask(
        tokens(40, model="near", max_tokens=270), because="near holds 300 tokens"
    ),
    "a window that it can": Ask(tokens(40, model="near", max_tokens=200)),
    # caps
    "below the cap": Ask(tokens(20, model="capped", max_tokens=10)),
    "at the cap": Ask(tokens(20, model="capped", max_tokens=30)),
    "above the cap": Ask(tokens(20, model="capped", max_tokens=31)),
    "far above the cap": Ask(tokens(20, model="capped", max_tokens=10_000)),
    "the cap alone": Ask(tokens(20, model="capped")),
    "a cap larger than the room": Ask(chat("qz" * 125, model="brief"), "slow"),
    # forms
    "json is atomic": Ask(chat("hi", max_tokens=10, **JSON), because="the answer is atomic (json)"),
    "a schema is atomic": Ask(chat("hi", max_tokens=10, **SCHEMA)),
    "json where nothing is atomic": Ask(chat("hi", max_tokens=10, **JSON), tags=("vip",)),
    "tools that may be called": Ask(chat("hi", max_tokens=10, tools=[TOOL])),
    "tools that must be called": Ask(
        chat("hi", max_tokens=10, tools=[TOOL], tool_choice="required"), because="atomic (tool_calls)"
    ),
    "the prompt's log-probabilities": Ask(
        tokens(20, max_tokens=5, **LOGPROBS), because="gate instead of window: the prompt's"
    ),
    "the prompt only": Ask(tokens(20, max_tokens=0, **LOGPROBS)),
    "the prompt only, and all that fits": Ask(tokens(512, max_tokens=0, **LOGPROBS)),
    "log-probabilities of the answer": Ask(chat("hi", max_tokens=5, logprobs=True, top_logprobs=2)),
    "a seed and a stop": Ask(chat("hi", max_tokens=5, seed=3, stop=["x"])),
    # several prompts and choices
    "two choices": Ask(chat("hi", max_tokens=10, n=2)),
    "two prompts": Ask(tokens(10, 30, max_tokens=10)),
    "two prompts, two choices": Ask(tokens(10, 30, max_tokens=10, n=2)),
    "two prompts without max_tokens": Ask(tokens(10, 30)),
    "one of two prompts is too long": Ask(tokens(10, 520), refused=TOO_LONG),
    # cascades of other modes
    "drafts": Ask(tokens(20, model="drafted", max_tokens=12)),
    "nothing is drafted for two choices": Ask(tokens(20, model="drafted", max_tokens=12, n=2)),
    "shadowed": Ask(tokens(20, model="shadowed", max_tokens=12)),
    # embeddings
    "embeddings": Ask(embed(10)),
    "several inputs": Ask(embed(10, 20, 30)),
    "shorter embeddings": Ask(embed(10, dimensions=4)),
    "embeddings of no such size": Ask(embed(10, dimensions=5), refused="dimensions_unsupported", simulated=False),
    "an input that is too long": Ask(embed(10, 49), refused=TOO_LONG, simulated=False),
    "embeddings by a model that makes text": Ask(embed(10, model="ladder"), refused="model_makes_text"),
    "embeddings of a ladder that makes both": Ask(embed(10, model="mixed")),
    "text of a ladder that makes both": Ask(tokens(10, model="mixed", max_tokens=5), because="mini is left out"),
    # what only an upstream can do
    "an image": Ask(chat(IMAGE, model="near", max_tokens=10), because="small is left out: it takes no images"),
    "an image that is estimated longer than the context": Ask(
        chat(IMAGE, model="near", max_tokens=290), refused=TOO_LONG
    ),
    "an image for models that take none": Ask(chat(IMAGE, max_tokens=10), refused="media_not_supported"),
    "an upstream's field": Ask(chat("hi", model="cloud", max_tokens=10, reasoning_effort="high")),
    "an upstream's field for engines": Ask(
        chat("hi", max_tokens=10, reasoning_effort="high"), refused="unsupported_parameter"
    ),
    "an upstream's field in a cascade": Ask(chat("hi", model="near", max_tokens=10, verbosity="low")),
    # budgets
    "it fits": Ask(tokens(5, max_tokens=5), "refused"),
    "refused": Ask(tokens(20, max_tokens=50), "refused", refused="budget_spent"),
    "unsaid tokens are dear": Ask(chat("hi"), "refused", refused="budget_spent"),
    "downgraded": Ask(tokens(20, max_tokens=30), "downgraded", because="tier low instead of gold"),
    "not downgraded": Ask(tokens(5, max_tokens=5), "downgraded"),
    "downgraded, and still too dear": Ask(tokens(20, max_tokens=200), "downgraded", refused="budget_spent"),
    "downgraded by a tag that stays": Ask(tokens(20, max_tokens=100), "downgraded", ("vip",), refused="budget_spent"),
    "downgraded to where nothing drafts": Ask(tokens(20, model="drafted", max_tokens=20), "downgraded"),
    "small only": Ask(tokens(20, max_tokens=40), "stingy", because="the budget is spent: stays on small"),
    "small only on a ladder": Ask(tokens(20, model="ladder", max_tokens=40), "stingy"),
    "small only, and still too dear": Ask(tokens(20, max_tokens=150), "stingy", refused="budget_spent"),
    "small only for several choices": Ask(tokens(20, model="ladder", max_tokens=10, n=3), "stingy"),
    "small only and capped": Ask(tokens(20, model="capped", max_tokens=60), "stingy"),
    "small only as json": Ask(chat("hi", max_tokens=40, **JSON), "stingy"),
    "small only without a small upstream's price": Ask(tokens(20, model="cloud", max_tokens=30), "stingy"),
    "nothing is cheap enough": Ask(tokens(20, max_tokens=40), "hopeless", refused="budget_spent"),
    "an embedding fits": Ask(embed(10), "refused"),
}


# --- the three -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decided:
    """What one of the three says."""

    code: str
    features: Features
    plan: Plan | None = None
    """With deadlines from the arrival."""
    tokens: int = 0
    cost: float = 0.0
    message: str = ""
    output_bound: int = 0


def with_key(request: InferenceRequest, key: str) -> InferenceRequest:
    """The request as it arrives now, from the tenant of this key."""
    credentials = msgspec.structs.replace(request.credentials, api_key=key)
    return msgspec.structs.replace(request, credentials=credentials, arrived_at=trio.current_time())


async def by_server(service: Stage, number: int, ask: Ask) -> Decided:
    """Let in, looked up in the ledger and the decision log, and left at once."""
    described_by = Features(
        model="", tenant=ask.tenant, tier="", prompt_tokens=0, max_tokens=0, headers=ask.headers,
        tags=frozenset(ask.tags), request=f"r{number}",
    )  # fmt: skip
    request = request_of_body(ask.path, json.dumps(ask.body).encode(), described_by, service.settings)
    request = with_key(request, KEYS[ask.tenant].raw)
    try:
        response = await service.service.open(request)
    except Refusal as refusal:
        found = service.service.admin.decision(request.request_id)
        features = described_by if found is None else found.features
        return Decided(refusal.body.code, features, message=refusal.body.message)
    found = service.service.admin.decision(request.request_id)
    assert found is not None
    await service.settled()
    row = service.row(request.request_id)
    response.close()
    await trio.sleep(60)
    return Decided("", found.features, found.plan, row["reserved_tokens"], row["reserved_cost"])


def decider_of(policy: Settings) -> Decider:
    """With what its models' folders would tell."""
    digests = dict.fromkeys((*policy.engines, "near"), "tiny")
    return Decider(policy, digests, Backends(LENGTHS, {"mini": EmbeddingModel("mini", SIZES.whole, SIZES.shorter)}))


def by_explain(
    tmp_path: Path, decider: Decider, ask: Ask, prompt_tokens: int, budget_used: float
) -> tuple[Decided, Explanation]:
    body = tmp_path / "body.json"
    body.write_text(json.dumps(ask.body))
    parser = argparse.ArgumentParser()
    add_flags(parser)
    flags = ["--request", str(body), "--tenant", ask.tenant, "--unit", "u"]
    flags += [word for tag in ask.tags for word in ("--tag", tag)]
    flags += [word for name, value in ask.headers.items() for word in ("--header", f"{name}={value}")]
    if budget_used:
        flags += ["--budget-used", repr(budget_used)]
    if "messages" in ask.body:
        # No tokenizer's folder is here: the count is given, as on a machine without the models.
        flags += ["--prompt-tokens", str(prompt_tokens)]
    situation = described(parser.parse_args(flags), decider).situation
    told = explain(decider, situation)
    code = "" if told.refused is None else told.refused.code
    message = "" if told.refused is None else told.refused.message
    planned = decider.plan(situation)
    if told.reserved is None:
        return Decided(code, planned.features, message=message), told
    reserved = told.reserved
    return (
        Decided(code, planned.features, planned.plan, reserved.tokens, reserved.cost, "", reserved.output_bound),
        told,
    )


def simulated(policy: Settings, trace: Path) -> list[SimulatedRequest]:
    cost = StepCost(fixed=0.01, slopes=(0.0,))
    engines = {
        name: EngineProfile(
            cost=cost, max_model_len=LENGTHS[name], kv_token_bytes=64, kv_bytes=64 * 16 * 256, tokenizer="tiny"
        )
        for name in ("small", "large", "tiny")
    }
    profile = Profile(penstock_profile=1, machine="none", engines=engines, encoders=("mini",))
    rows = read_trace(trace)
    # Over one that comes much later the world spreads its samples, of which a short trace has too many.
    last = TraceRequest(at=300.0, wall_at=rows[-1].wall_at + 300, prompt_tokens=1, output_tokens=1, tenant="slow")
    world = World(policy, profile, (*rows, last), seed=1, shares=dict.fromkeys(policy.cascades, 0.0))
    world.run(lambda _at, _arrived: None)
    return sorted(world.answers, key=lambda answer: answer.number)[:-1]


def by_simulation(answer: SimulatedRequest) -> Decided:
    if answer.reservation is None or answer.plan is None or answer.hold is None:
        return Decided(answer.code, answer.features)
    at = answer.arrived_at
    plan = msgspec.structs.replace(
        answer.plan,
        ttft_at=answer.plan.ttft_at - at,
        first_by=None if answer.plan.first_by is None else answer.plan.first_by - at,
        total_at=answer.plan.total_at - at,
    )
    return Decided("", answer.features, plan, answer.reservation.tokens, answer.hold.amount)


def played(plan: Plan) -> Plan:
    """What drafts save is not simulated: the large stage answers alone, for what the drafts would have cost.

    Neither are encoders: a profile does not name their tokenizers.
    """
    if plan.rungs and plan.rungs[0].to == "mini":
        return msgspec.structs.replace(plan, rungs=(msgspec.structs.replace(plan.rungs[0], tokenizer=""),))
    if plan.cascade is None or plan.cascade.mode != "verified":
        return plan
    return msgspec.structs.replace(plan, cascade=msgspec.structs.replace(plan.cascade, start_on="large"))


# --- side by side ----------------------------------------------------------------------------------------------------


def plain(features: Features) -> dict[str, Any]:
    """But for names and times, which each of the three gives of its own."""
    skipped = {"at", "request", "conversation", "user", "budget_used"}
    return {name: getattr(features, name) for name in Features.__struct_fields__ if name not in skipped}


def without_clock(message: str) -> str:
    return re.sub(r"renews in \d+ s", "renews", message)


def assert_same_plan(found: Plan | None, expected: Plan | None) -> None:
    """Field by field."""
    assert (found is None) == (expected is None)
    if found is None or expected is None:
        return
    for name in Plan.__struct_fields__:
        one, other = getattr(found, name), getattr(expected, name)
        if name in {"ttft_at", "first_by", "total_at"}:
            assert one == pytest.approx(other), name
        else:
            assert one == other, name


def write_trace(path: Path, features: Features, *, output_tokens: int = 3) -> None:
    recording = Recording(path, Mailbox("recorder", 1), 0.0)
    append(recording, [RecordedRequest(features, trio.current_time(), output_tokens=output_tokens)])


def check(ask: Ask, served: Decided, told: Decided, explanation: Explanation) -> None:
    """`policy explain` beside the server."""
    assert served.code == ask.refused
    assert (told.code, without_clock(told.message)) == (served.code, without_clock(served.message))
    assert_same_plan(told.plan, served.plan)
    assert (told.tokens, told.cost) == (served.tokens, pytest.approx(served.cost))
    reasons = () if served.plan is None else served.plan.reasons
    assert not ask.because or any(ask.because in reason for reason in reasons), reasons
    if served.plan is not None:
        assert plain(told.features) == plain(served.features)
        assert (explanation.degraded, explanation.reasons) == (served.plan.degraded, served.plan.reasons)
        assert explanation.cascade is None or explanation.cascade.planned == served.plan.cascade
        assert told.output_bound == (served.tokens - told.features.prompt_tokens) / told.features.choices


def check_simulation(served: Decided, found: Decided) -> None:
    """The simulation beside the server."""
    assert found.code == served.code
    assert_same_plan(found.plan, None if served.plan is None else played(served.plan))
    assert (found.tokens, found.cost) == (served.tokens, pytest.approx(served.cost))
    assert plain(found.features) == plain(served.features)


async def test_server_simulation_and_explain_agree(autojump_clock, tmp_path: Path) -> None:
    policy = settings()
    decider = decider_of(policy)
    differing: dict[str, str] = {}
    async with trio.open_nursery() as nursery:
        network = Network(nursery, {"a": upstream_says("hi")})
        encoders = {"mini": SIZES}
        async with stage(settings=policy, lengths=LENGTHS, encoders=encoders, network=network.connect) as service:
            for number, (name, ask) in enumerate(ASKED.items()):
                served = await by_server(service, number, ask)
                try:
                    check(ask, served, *by_explain(tmp_path, decider, ask, served.features.prompt_tokens, 0.0))
                    if ask.refused != "model_not_found" and ask.simulated:
                        trace = tmp_path / f"{number}.jsonl"
                        write_trace(trace, served.features)
                        check_simulation(served, by_simulation(*simulated(policy, trace)))
                except AssertionError as error:
                    differing[name] = str(error)
        nursery.cancel_scope.cancel()
    assert differing == {}


@pytest.mark.parametrize(
    ("name", "tenant", "route"),
    [("a free share", "rich", "rest"), ("a share that a condition sees", "stingy", "nearly-spent")],
)
async def test_what_is_reserved_by_others_counts_in_all_three(
    autojump_clock, tmp_path: Path, name: str, tenant: str, route: str
) -> None:
    """A first request holds money while a second one is decided."""
    first, second = Ask(tokens(4, max_tokens=3), tenant), Ask(tokens(8, max_tokens=20), tenant)
    policy = settings()
    async with stage(settings=policy, lengths=LENGTHS, encoders={"mini": SIZES}, network=None, clean=False) as service:
        key = KEYS[tenant].raw
        opened = []
        for number, ask in enumerate((first, second)):
            seed = Features(model="", tenant=tenant, tier="", prompt_tokens=0, max_tokens=0, request=f"r{number}")
            request = request_of_body(ask.path, json.dumps(ask.body).encode(), seed, policy)
            request = with_key(request, key)
            opened.append(await service.service.open(request))
        await service.settled()
        records = [service.service.admin.decision(f"r{number}") for number in range(2)]
        rows = [service.row(f"r{number}") for number in range(2)]
        trace = tmp_path / "trace.jsonl"
        recording = Recording(trace, Mailbox("recorder", 1), 0.0)
        for record in records:
            assert record is not None
            append(recording, [RecordedRequest(record.features, trio.current_time(), output_tokens=3)])
        for response in opened:
            response.close()
        await service.settled()
    record = records[1]
    assert record is not None
    assert record.plan is not None
    assert (record.plan.route, record.features.budget_used > 0) == (route, True)
    told, _ = by_explain(tmp_path, decider_of(policy), second, 8, record.features.budget_used)
    assert_same_plan(told.plan, record.plan)
    assert (told.tokens, told.cost) == (rows[1]["reserved_tokens"], pytest.approx(rows[1]["reserved_cost"]))
    found = by_simulation(simulated(policy, trace)[1])
    assert found.features.budget_used == pytest.approx(record.features.budget_used)
    assert_same_plan(found.plan, record.plan)
    assert (found.tokens, found.cost) == (told.tokens, pytest.approx(told.cost))


def test_there_are_many() -> None:
    assert len(ASKED) >= 60
