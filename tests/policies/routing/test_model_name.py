"""NAME and NAME:ADAPTER."""

import pytest

from policies.errors import NoSuchModel
from policies.routing.model_name import find_model

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
