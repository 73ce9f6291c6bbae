"""Pages of the model list, as Anthropic's clients turn them."""

import pytest

from actors.service_view import ModelCard
from gateway.anthropic.model_list import model_fields, model_page
from gateway.errors import BadField

CARDS = [ModelCard(name, f"is {name}", 1_700_000_000, 4096) for name in "abcde"]


def test_a_model() -> None:
    assert model_fields(CARDS[0]) == {
        "type": "model",
        "id": "a",
        "display_name": "a",
        "created_at": "2023-11-14T22:13:20Z",
        "lifecycle": "active",
        "max_input_tokens": 4096,
        "description": "is a",
        "available": True,
    }


@pytest.mark.parametrize(
    ("query", "names", "has_more"),
    [
        ({}, "abcde", False),
        ({"limit": "2"}, "ab", True),
        ({"limit": "5"}, "abcde", False),
        ({"limit": "2", "after_id": "b"}, "cd", True),
        ({"limit": "2", "after_id": "c"}, "de", False),
        ({"after_id": "e"}, "", False),
        ({"limit": "2", "before_id": "e"}, "cd", True),
        ({"limit": "2", "before_id": "c"}, "ab", False),
        ({"before_id": "a"}, "", False),
    ],
)
def test_pages(query: dict[str, str], names: str, *, has_more: bool) -> None:
    page = model_page(CARDS, query)
    assert [each["id"] for each in page["data"]] == list(names)
    assert page["has_more"] is has_more
    assert (page["first_id"], page["last_id"]) == ((names[0], names[-1]) if names else (None, None))


WRONG = [{"limit": each} for each in ("0", "1001", "x", "", "9" * 5000, "²")]


@pytest.mark.parametrize("query", [*WRONG, {"after_id": "z"}, {"before_id": ""}, {"page": "1"}])
def test_wrong_queries(query: dict[str, str]) -> None:
    with pytest.raises(BadField) as refused:
        model_page(CARDS, query)
    assert refused.value.body.param == next(iter(query))


def test_no_models_are_a_page() -> None:
    assert model_page([], {}) == {"data": [], "has_more": False, "first_id": None, "last_id": None}
