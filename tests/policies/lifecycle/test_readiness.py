"""What a probe reads, case by case."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.lifecycle.readiness import BackendFacts, readiness

UP = BackendFacts()
DOWN = BackendFacts(down=True, state="failed", breaker_open=True)
LOADING = BackendFacts(state="loading")
FAILED = BackendFacts(state="failed")
OPEN = BackendFacts(breaker_open=True)
RESTS = BackendFacts(rests=True)
RUNGS = {"chat": ("small", "large"), "deep": ("large",), "cloud": ("up",)}


@pytest.mark.parametrize(
    ("small", "large", "up", "state", "models"),
    [
        (UP, UP, UP, "serving", "chat deep cloud"),
        (LOADING, UP, UP, "serving", "chat deep cloud"),
        (UP, LOADING, UP, "serving", "chat cloud"),
        (UP, FAILED, RESTS, "serving", "chat"),
        (FAILED, FAILED, UP, "serving", "cloud"),
        (DOWN, OPEN, UP, "serving", "cloud"),
        (OPEN, OPEN, OPEN, "no_rung_available", ""),
        (FAILED, LOADING, RESTS, "no_rung_available", ""),
        (DOWN, DOWN, OPEN, "no_rung_available", ""),
        (DOWN, DOWN, DOWN, "backends_down", ""),
    ],
)
def test_it_follows_the_rungs(
    small: BackendFacts, large: BackendFacts, up: BackendFacts, state: str, models: str
) -> None:
    backends = {"small": small, "large": large, "up": up}
    told = readiness("serving", loaded=True, ledger_blocked=False, backends=backends, rungs_of=RUNGS)
    assert (told.ready, told.state) == (state == "serving", state)
    assert [name for name, each in told.models.items() if each.ready] == models.split()
    assert told.models["deep"].rungs == {"large": large.rung_state}


@pytest.mark.parametrize(
    ("drain", "loaded", "blocked", "state"),
    [
        ("serving", False, False, "loading"),
        ("serving", True, True, "ledger_blocked"),
        ("draining", True, True, "draining"),
        ("stopping", True, False, "stopping"),
        ("dead", False, False, "dead"),
    ],
)
def test_no_model_is_ready_while_no_request_is_taken(drain, loaded: bool, blocked: bool, state: str) -> None:
    backends = {"small": UP, "large": UP, "up": UP}
    told = readiness(drain, loaded=loaded, ledger_blocked=blocked, backends=backends, rungs_of=RUNGS)
    assert (told.ready, told.state) == (False, state)
    assert not any(each.ready for each in told.models.values())


def test_static_answers_alone_need_no_backend() -> None:
    told = readiness("serving", loaded=True, ledger_blocked=False, backends={}, rungs_of={"note": ()})
    assert told.ready
    assert told.models["note"].ready


facts = st.sampled_from([UP, DOWN, LOADING, FAILED, OPEN, RESTS])


@given(facts, facts, facts, st.booleans())
def test_it_is_ready_just_if_a_model_is(
    small: BackendFacts, large: BackendFacts, up: BackendFacts, loaded: bool
) -> None:
    backends = {"small": small, "large": large, "up": up}
    told = readiness("serving", loaded=loaded, ledger_blocked=False, backends=backends, rungs_of=RUNGS)
    assert told.ready == any(each.ready for each in told.models.values())
