"""Turns what a key permits into the errors that clients read."""

from actors.api.errors import BadKey, Forbidden, KeyExpired
from actors.api.request import ParsedBody
from config.model.settings import Role
from config.model.tenancy import KeyEndpoint
from policies.admission.keys import KeyGrant, KeyRing

_ENDPOINTS: dict[str, KeyEndpoint] = {"messages": "chat", "prompt": "completions"}
"""By the field that contains the prompts."""


def _endpoint_of(body: ParsedBody) -> KeyEndpoint:
    """What a key must permit for this body."""
    if body.embedding is not None:
        return body.embedding.endpoint
    if body.tokenize is not None:
        return "tokenize"
    return _ENDPOINTS[body.param] if body.response is None else "responses"


def granted(ring: KeyRing, key: str | None, at: float) -> KeyGrant:
    """What the key permits at `at`. Raises BadKey, KeyExpired among them."""
    grant = "unknown" if key is None else ring.authenticate(key, at)
    match grant:
        case "unknown":
            raise BadKey(missing=key is None)
        case "expired":
            raise KeyExpired
        case _:
            return grant


def check_endpoint(grant: KeyGrant, endpoint: KeyEndpoint) -> None:
    """Raises Forbidden."""
    if not grant.permits_endpoint(endpoint):
        raise Forbidden(
            "endpoint_not_allowed",
            f"This API key may not be used for {endpoint}; it may be used for: {', '.join(grant.endpoints)}.",
        )


def check_body(grant: KeyGrant, body: ParsedBody) -> None:
    """Whether the key may send this. Raises Forbidden."""
    check_endpoint(grant, _endpoint_of(body))
    if not grant.permits_model(body.model):
        raise Forbidden(
            "model_not_allowed",
            f"This API key may not ask for the model '{body.model}'; it may ask for: {', '.join(grant.models)}.",
            param="model",
        )


def check_role(grant: KeyGrant, role: Role) -> None:
    """Raises Forbidden."""
    if role not in grant.roles:
        raise Forbidden(
            "role_needed",
            f"This needs a key whose roles (in [[admin.keys]]) include '{role}'; it has: {', '.join(grant.roles)}.",
        )
