"""The errors of keys: what was wrong, and what would do."""

import msgspec
import pytest

from actors.api.errors import BadKey, Forbidden, KeyExpired
from actors.api.request import AskedResponse, ChatMessage, ChatPrompt, ParsedBody, TokenizeParams, TokenPrompt
from actors.routing.key_check import check_body, check_endpoint, check_role, granted
from config.model.table import Moment
from config.model.tenancy import KeySettings
from engine.sampling.params import SamplingParams
from policies.admission.keys import KeyGrant, KeyRing, hash_key

RAW = "penstock_x_y"
RING = KeyRing([KeySettings(id="x", tenant="acme", hash=hash_key(RAW), expires=Moment(100.0))])
CHAT = ParsedBody(
    model="small", prompts=(ChatPrompt((ChatMessage("user", "Hi"),)),), params=SamplingParams(max_tokens=1)
)
TEXT = msgspec.structs.replace(CHAT, prompts=(TokenPrompt((1,)),))


@pytest.mark.parametrize(
    ("key", "at", "error", "code"),
    [
        (None, 0.0, BadKey, "invalid_api_key"),
        ("", 0.0, BadKey, "invalid_api_key"),
        ("penstock_x_z", 200.0, BadKey, "invalid_api_key"),
        (RAW, 100.0, KeyExpired, "api_key_expired"),
    ],
)
def test_a_key_that_is_not_valid(key: str | None, at: float, error: type[BadKey], code: str) -> None:
    with pytest.raises(error) as caught:
        granted(RING, key, at)
    assert (type(caught.value), caught.value.body.status, caught.value.body.code) == (error, 401, code)
    assert str(caught.value) == caught.value.body.message


def test_a_valid_key() -> None:
    assert granted(RING, RAW, 99.0) == KeyGrant("acme", "x")


def test_what_is_outside_the_scope() -> None:
    grant = KeyGrant("acme", models=("mini", "large*"), endpoints=("completions", "embeddings"))
    check_endpoint(grant, "embeddings")
    check_body(grant, msgspec.structs.replace(TEXT, model="large-2"))
    with pytest.raises(Forbidden, match="may not be used for chat; it may be used for: completions, embeddings") as it:
        check_body(grant, CHAT)
    assert (it.value.body.status, it.value.body.code) == (403, "endpoint_not_allowed")
    with pytest.raises(Forbidden, match="may not be used for tokenize"):
        check_body(grant, msgspec.structs.replace(TEXT, model="large-2", tokenize=TokenizeParams()))
    with pytest.raises(Forbidden, match="the model 'small'; it may ask for: mini, large") as it:
        check_body(grant, TEXT)
    assert (it.value.body.status, it.value.body.code, it.value.body.param) == (403, "model_not_allowed", "model")


def test_a_response_has_a_scope_of_its_own() -> None:
    response = msgspec.structs.replace(CHAT, response=AskedResponse({}))
    check_body(KeyGrant("acme", endpoints=("responses",)), response)
    with pytest.raises(Forbidden, match="may not be used for responses"):
        check_body(KeyGrant("acme", endpoints=("chat", "embeddings")), response)


def test_roles() -> None:
    check_role(KeyGrant("", roles=("read", "operate")), "operate")
    with pytest.raises(Forbidden, match="include 'adapters'; it has: read, operate") as caught:
        check_role(KeyGrant("", roles=("read", "operate")), "adapters")
    assert caught.value.body.code == "role_needed"
