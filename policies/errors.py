"""Errors of the decision logic.

PolicyError
├── CannotServe         the request cannot be served as it is
│   └── NoRoute         no route takes it
├── NoSuchModel         the requested name is unknown
├── KeyRefused          a change of keys that cannot be made
├── UnknownTenant       the settings do not name this tenant
└── IntegrityError      a book contradicts itself: a defect, never the caller's input
"""

QUARANTINED = "request_quarantined"
"""The code of a request that was running in several crashes of engines: see `policies.queueing.quarantine`."""


class PolicyError(Exception):
    """Base class of the errors of `policies`."""


class CannotServe(PolicyError):  # noqa: N818  (it is an answer, not a fault)
    """Sending it again does not help; `param` is the field of the body that is to blame."""

    def __init__(self, message: str, *, param: str | None, code: str) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class NoRoute(CannotServe):
    """No route's condition holds; the request can be refused with this message."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"No route of the policy accepts this request for the model '{model}'. Check the tags (x-penstock-tags), "
            "the API key's tenant, and the prompt's length.",
            param=None,
            code="no_route",
        )


class NoSuchModel(PolicyError):  # noqa: N818  (it is an answer, not a fault)
    """No policy knows the name."""

    def __init__(self, model: str, nearest: str | None) -> None:
        hint = f" Did you mean '{nearest}'?" if nearest else " GET /v1/models lists the names."
        super().__init__(f"The model '{model}' does not exist.{hint}")


class KeyRefused(PolicyError):  # noqa: N818  (it is an answer, not a fault)
    """A change of keys that the keys or the settings do not allow."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class UnknownTenant(PolicyError):  # noqa: N818  (named as the rest of the tree)
    """The tenant is not among those that the quota was created with."""

    def __init__(self, tenant: str) -> None:
        super().__init__(f"There is no tenant '{tenant}' in the settings.")
        self.tenant = tenant


class IntegrityError(PolicyError):
    """A book's figures do not add up."""


def unsupported(name: str) -> str:
    """The message about a field whose value is not supported."""
    return f"'{name}' is not supported by this server with that value. Remove the field."
