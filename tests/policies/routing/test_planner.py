"""From features to the final plan, and model names; tests/gateway/test_one_planner.py compares all callers."""

from pathlib import Path

import msgspec
import pytest

from config.load import parse_settings
from config.tenants import known_tenants
from policies.admission.budget import BudgetView
from policies.errors import NoSuchModel
from policies.model.backends import UNBOUNDED, UNLIMITED_OUTPUT_TOKENS, Backends, EmbeddingModel, upstream_length
from policies.model.features import Features, Requirements, described_requirements
from policies.model.load import EngineLoad, Load
from policies.routing.planner import Planned, PlanningSnapshot, PlanRefusal, SizesNeeded, decide, find_model
from policies.routing.policy import Policy, make_plan
from policies.routing.token_budget import PromptSizes, tokens_at
from tests.policies.model.test_plan import SAME, TEXT

PRICED = """
[prices]
small = { input = 1_000_000, output = 1_000_000 }
large = { input = 2_000_000, output = 2_000_000 }
[tenants.acme]
budget = { amount = 100, when_spent = "small_only" }
[tenants.bob]
budget = { amount = 100 }
"""
SETTINGS = parse_settings(TEXT + PRICED, Path("/etc/x.toml"))
POLICY = Policy.compile(SETTINGS, SAME)
LENGTHS = Backends({"small": 300, "large": 200})
PLAIN = Features(model="chat", tenant="acme", tier="default", prompt_tokens=10, max_tokens=20)


def decided(
    features: Features = PLAIN,
    sizes: PromptSizes | None = None,
    budget: BudgetView | None = None,
    backends: Backends = LENGTHS,
) -> Planned | PlanRefusal | SizesNeeded:
    snapshot = PlanningSnapshot(POLICY, known_tenants(SETTINGS), backends)
    return decide(snapshot, features, sizes or PromptSizes.alike(features), Load(), budget, 0.0)


def planned(features: Features = PLAIN, backends: Backends = LENGTHS) -> Planned:
    found = decided(features, backends=backends)
    assert isinstance(found, Planned)
    return found


def left(amount: float) -> BudgetView:
    return BudgetView(100.0, "day", 100.0 - amount, 0.0, 60.0)


def test_a_size_that_nobody_has_counted_is_asked_for() -> None:
    unknown = PromptSizes({"small": None, "large": (12,)})
    assert decided(sizes=unknown) == SizesNeeded("small", may_estimate=False)
    found = decided(sizes=unknown.counted("small", [7, 8]))
    assert isinstance(found, Planned)
    assert found.prompt_tokens == 15


def test_the_first_that_fits_is_served() -> None:
    # Both stages may cost 3 · 30, the small one alone 30.
    for amount, may_escalate in ((90.0, True), (89.0, False), (30.0, False)):
        found = decided(budget=left(amount))
        assert isinstance(found, Planned)
        assert found.plan.cascade is not None
        assert (found.plan.cascade.may_escalate, found.features.budget_spent) == (may_escalate, not may_escalate)
        assert found.cost == (90 if may_escalate else 30)
    refused = decided(budget=left(29.0))
    assert isinstance(refused, PlanRefusal)
    assert (refused.code, refused.budget is not None) == ("budget_spent", True)
    assert refused.plan is not None


def test_what_is_known_not_to_fit_is_not_tried_again() -> None:
    spent = msgspec.structs.replace(PLAIN, budget_spent=True)
    found = decided(spent, budget=left(100.0))
    assert isinstance(found, Planned)
    assert found.plan.degraded == ("budget_small_only",)
    refused = decided(msgspec.structs.replace(spent, tenant="bob"))
    assert isinstance(refused, PlanRefusal)
    assert refused.message == "The budget of tenant 'bob' is spent for this day."
    without = decided(msgspec.structs.replace(spent, tenant="anonymous"))
    assert isinstance(without, Planned)
    assert without.plan.degraded == ()


def test_the_worst_case_counts_every_choice() -> None:
    several = msgspec.structs.replace(PLAIN, choices=4, requirements=Requirements(prompt_lengths=(4, 6)))
    assert planned(several).tokens == 10 + 4 * 20
    assert planned(msgspec.structs.replace(PLAIN, max_tokens=0)).output_bound == 64
    assert planned(msgspec.structs.replace(PLAIN, max_tokens=90)).plan.degraded == ("output_capped",)
    # What was said about the prompts' lengths holds for as many tokens as they were.
    assert PromptSizes.alike(msgspec.structs.replace(several, prompt_tokens=11)).otherwise == (11,)


BUSY = """\
schema = 1
[engines.small]
model = "s"
[models.chat]
[tiers.default]
slo = { ttft = "2s" }
[[routes]]
name = "all"
use = { ladder = "only" }
caps = { output_tokens = 64, busy_output_tokens = 16, busy_at = 0.25 }
[[ladders.only]]
to = "small"
"""


@pytest.mark.parametrize(
    ("wait_s", "max_tokens", "bound", "degraded"),
    [
        (0.49, 100, 64, ("output_capped",)),
        (0.5, 100, 16, ("busy_capped",)),
        (0.5, 17, 16, ("busy_capped",)),
        (0.5, 16, 16, ()),
        # Without a limit of its own the answer is shorter than it would be without load.
        (0.5, 0, 16, ("busy_capped",)),
        (0.49, 0, 64, ()),
    ],
)
def test_answers_become_shorter_while_the_first_rung_is_busy(
    wait_s: float, max_tokens: int, bound: int, degraded: tuple[str, ...]
) -> None:
    settings = parse_settings(BUSY, Path("/etc/x.toml"))
    snapshot = PlanningSnapshot(Policy.compile(settings, SAME), known_tenants(settings), LENGTHS)
    load = Load(engines={"small": EngineLoad(name="small", expected_wait_s=wait_s)})
    features = msgspec.structs.replace(PLAIN, tenant="anonymous", max_tokens=max_tokens)
    found = decide(snapshot, features, PromptSizes.alike(features), load, None, 0.0)
    assert isinstance(found, Planned)
    assert (found.output_bound, found.plan.degraded) == (bound, degraded)
    assert any("small is busy" in reason for reason in found.plan.reasons) == (wait_s >= 0.5)
    unknown = decide(snapshot, features, PromptSizes.alike(features), Load(), None, 0.0)
    assert isinstance(unknown, Planned)
    assert unknown.plan.output_cap == 64


@pytest.mark.parametrize(
    ("admit_by", "first_by"), [("slo", 102.0), ("deadline", 130.0), ("queue", None), (None, 130.0)]
)
def test_by_when_the_first_token_must_be_expected(admit_by: str | None, first_by: float | None) -> None:
    text = BUSY if admit_by is None else BUSY.replace("slo =", f'admit_by = "{admit_by}"\nslo =')
    policy = Policy.compile(parse_settings(text, Path("/etc/x.toml")), SAME)
    features = msgspec.structs.replace(PLAIN, tenant="anonymous")
    assert make_plan(policy, features, Load(), 100.0).first_by == first_by


@pytest.mark.parametrize(
    ("needs", "reason"),
    [
        (Requirements(), None),
        (Requirements(bound_to="json"), "the answer is atomic (json)"),
        (Requirements(bound_to="tool_calls"), "the answer is atomic (tool_calls)"),
        (Requirements(prompt_logprobs=True), "the prompt's log-probabilities are asked for"),
    ],
)
def test_what_binds_the_large_model_is_a_gate(needs: Requirements, reason: str | None) -> None:
    plan = planned(msgspec.structs.replace(PLAIN, requirements=needs)).plan
    assert plan.cascade is not None
    assert plan.cascade.mode == ("window" if reason is None else "gate")
    assert reason is None or plan.reasons[-1] == f"gate instead of window: {reason}"


def test_a_window_needs_a_large_model_that_can_go_on() -> None:
    for tokens, mode in ((136, "window"), (137, "gate")):
        plan = planned(msgspec.structs.replace(PLAIN, prompt_tokens=tokens, max_tokens=0)).plan
        assert plan.cascade is not None
        assert plan.cascade.mode == mode


def test_an_adapter_answers_everywhere() -> None:
    plan = planned(msgspec.structs.replace(PLAIN, requirements=Requirements(adapter="legal"))).plan
    assert plan.cascade is not None
    assert {rung.adapter for rung in (plan.cascade.small, plan.cascade.large, *plan.rungs) if rung.to} == {"legal"}
    assert plan.reasons[-1] == "adapter legal was asked for"


REFUSED = {
    "model_makes_text": Requirements(embedding=True),
    "unsupported_parameter": Requirements(upstream_fields=("verbosity",)),
}


@pytest.mark.parametrize("code", REFUSED)
def test_what_no_rung_can_do(code: str) -> None:
    found = decided(msgspec.structs.replace(PLAIN, requirements=REFUSED[code]))
    assert isinstance(found, PlanRefusal)
    assert found.code == code


def test_engines_of_unknown_length() -> None:
    unsaid = msgspec.structs.replace(PLAIN, prompt_tokens=9_000, max_tokens=30)
    assert planned(unsaid, Backends({"small": UNBOUNDED, "large": 200})).output_bound == 30
    # Not loaded yet: nothing is known, and nobody is refused.
    assert planned(unsaid, Backends()).output_bound == 30
    assert upstream_length(500, counts=True) == 500
    assert upstream_length(500, counts=False) == upstream_length(None, counts=True) == UNBOUNDED
    assert UNLIMITED_OUTPUT_TOKENS < UNBOUNDED


def test_sizes_of_embeddings() -> None:
    assert EmbeddingModel("m").allows(7)
    cut = EmbeddingModel("m", 8, (4,))
    assert [size for size in range(10) if cut.allows(size)] == [4, 8]
    assert EmbeddingModel("m", 8, None).allows(3)


def test_what_features_tell_of_a_request() -> None:
    assert described_requirements("/v1/embeddings", ()).embedding
    assert described_requirements("/v1/chat/completions", ("schema", "tools")).bound_to == "json"
    assert described_requirements("/v1/completions", ("stream",)) == Requirements(param="prompt")


@pytest.mark.parametrize(
    ("max_tokens", "cap", "room", "tokens"),
    [
        (5, None, 10, 5),
        (5, 3, 10, 3),
        (0, 3, 10, 3),
        (0, None, 10, 0),
        # What the client asks for must fit; a cap alone may be cut.
        (11, None, 10, None),
        (12, 11, 10, None),
        (11, 10, 10, 10),
        (0, 11, 10, 10),
        (0, None, 0, None),
        (1, 1, 0, None),
    ],
)
def test_the_tokens_of_a_choice_at_one_rung(max_tokens: int, cap: int | None, room: int, tokens: int | None) -> None:
    assert tokens_at(max_tokens, cap, room) == tokens


ADAPTERS = {"chat": ("legal", "medical"), "a:b": ()}


def found(asked: str) -> tuple[str, str]:
    return find_model(asked, ADAPTERS, ADAPTERS.__getitem__)


def test_names() -> None:
    assert found("chat") == ("chat", "")
    assert found("chat:legal") == ("chat", "legal")
    assert found("a:b") == ("a:b", "")


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("chat:leagl", "Did you mean 'chat:legal'?"),
        ("nothing", "GET /v1/models"),
        ("other:legal", "GET /v1/models|Did you mean"),
        ("x" * 500, f"'{'x' * 200}'"),
    ],
)
def test_unknown_ones(asked: str, hint: str) -> None:
    with pytest.raises(NoSuchModel, match=hint):
        found(asked)
