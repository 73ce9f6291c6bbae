"""Which role each address of the admin API needs. To change what is not named here takes `operate`."""

from config.model.settings import Role

_CHANGES_NOTHING = frozenset({"/admin/policy/check"})
_KEYS = "/admin/keys"
_FOLDERS = "/admin/engines/"


def role_needed(method: str, path: str) -> Role:
    """`path`: decoded, as the handlers see it."""
    if method in {"GET", "HEAD"} or path.rstrip("/") in _CHANGES_NOTHING:
        return "read"
    if path == _KEYS or path.startswith(f"{_KEYS}/"):
        return "keys"
    return "adapters" if path.startswith(_FOLDERS) else "operate"
