"""What can go wrong in a decision.

PolicyError
├── NoRoute             no route takes this request
├── UnknownTenant       a book was asked about a tenant that the settings do not name
└── IntegrityError      a book contradicts itself: a defect, never the caller's input
"""


class PolicyError(Exception):
    """A decision could not be taken."""


class NoRoute(PolicyError):  # noqa: N818  (it is an answer, not a fault)
    """No route's condition holds; the request can be refused with this message."""

    def __init__(self, model: str) -> None:
        super().__init__(f"No route takes this request for the model '{model}': check its tags, tenant and size.")
        self.model = model


class UnknownTenant(PolicyError):  # noqa: N818  (named as the rest of the tree)
    """A name that is not among the tenants that the book was made with."""

    def __init__(self, tenant: str) -> None:
        super().__init__(f"There is no tenant '{tenant}' in the settings.")
        self.tenant = tenant


class IntegrityError(PolicyError):
    """A book's figures do not add up."""
