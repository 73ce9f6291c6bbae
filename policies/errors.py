"""Errors of the decision logic.

PolicyError
├── NoRoute             no route's condition holds for the request
├── UnknownTenant       the settings do not name this tenant
└── IntegrityError      internal counters contradict each other: a defect, never caused by input
"""


class PolicyError(Exception):
    """Base class of the errors of `policies`."""


class NoRoute(PolicyError):  # noqa: N818  (a regular outcome, not a fault)
    """No route's condition holds. The text can be sent to the client as it is."""

    def __init__(self, model: str) -> None:
        super().__init__(f"No route takes this request for the model '{model}': check its tags, tenant and size.")
        self.model = model


class UnknownTenant(PolicyError):  # noqa: N818  (named as the rest of the tree)
    """The tenant is not among those that the quota was created with."""

    def __init__(self, tenant: str) -> None:
        super().__init__(f"There is no tenant '{tenant}' in the settings.")
        self.tenant = tenant


class IntegrityError(PolicyError):
    """Counters or sums that must agree do not. Raised by `check_integrity()` methods."""
