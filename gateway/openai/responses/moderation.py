"""The answer of `/v1/moderations`."""

from collections.abc import Mapping, Sequence
from typing import Any

from actors.api.response import Served, Usage
from config.model.judging import CategorySettings
from gateway.openai.json_text import encode, usage_fields

CATEGORIES = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip
"""OpenAI's, which every answer has."""


def moderation_answer(
    request_id: str,
    model: str,
    *,
    categories: Mapping[str, CategorySettings],
    labels: Sequence[str],
    scores: Sequence[Sequence[float]],
    usage: Usage,
    served: Served,
) -> bytes:
    """`scores`: for each text those of the classifier's `labels`, among which all of the categories are."""
    places = {label: place for place, label in enumerate(labels)}
    results = [_result(categories, {label: row[place] for label, place in places.items()}) for row in scores]
    return encode(
        {
            "id": f"modr-{request_id}",
            "model": model,
            "results": results,
            "usage": usage_fields(usage),
            "penstock": served,
        }
    )


def _result(categories: Mapping[str, CategorySettings], by_label: Mapping[str, float]) -> dict[str, Any]:
    """A category without labels is never flagged; that it was not judged shows in `category_applied_input_types`."""
    names = (*CATEGORIES, *[name for name in categories if name not in CATEGORIES])
    found = {name: max(by_label[label] for label in each.labels) for name, each in categories.items()}
    flagged = {name: name in found and found[name] >= categories[name].threshold for name in names}
    return {
        "flagged": any(flagged.values()),
        "categories": flagged,
        "category_scores": {name: found.get(name, 0.0) for name in names},
        "category_applied_input_types": {name: ["text"] if name in found else [] for name in names},
    }
