"""Which role each address of the admin API needs."""

import pytest

from policies.admission.admin_roles import role_needed

CASES = [
    ("GET", "/admin/policy", "read"),
    ("HEAD", "/admin/policy", "read"),
    ("GET", "/admin/keys", "read"),
    ("GET", "/admin/engines/small/adapters", "read"),
    ("POST", "/admin/policy/check", "read"),
    ("POST", "/admin/policy/check/", "read"),
    ("DELETE", "/admin/policy/check/x", "operate"),
    ("POST", "/admin/policy/reload", "operate"),
    ("POST", "/admin/experiments/a / b/roll_back", "operate"),
    ("POST", "/admin/engines/small/adapters/x", "adapters"),
    ("DELETE", "/admin/engines/small/adapters/x", "adapters"),
    ("POST", "/admin/what/comes/later", "operate"),
    ("POST", "/admin/keys", "keys"),
    ("POST", "/admin/keys/a/rotate", "keys"),
    ("DELETE", "/admin/keys/a", "keys"),
    ("POST", "/admin/keyslike", "operate"),
    ("PUT", "/", "operate"),
]


@pytest.mark.parametrize(("method", "path", "role"), CASES)
def test_the_role_of_an_address(method: str, path: str, role: str) -> None:
    assert role_needed(method, path) == role
