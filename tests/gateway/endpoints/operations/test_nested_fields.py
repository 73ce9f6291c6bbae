"""What is within a body's fields: the schema and the reader agree on each row of a table."""

import json
from typing import Any, NamedTuple

import pytest
from jsonschema import Draft202012Validator

from gateway.errors import HttpError
from tests.gateway.endpoints.operations.test_all_operations import DESCRIBED, DOCUMENT, PARSERS

PNG, WAV, PDF = "iVBORw0KGgo=", "UklGRgAAAABXQVZF", "JVBERi0x"
WEB = "https://example.org/a.png"


class Row(NamedTuple):
    """Values of a field by whether they are allowed."""

    operation: str
    field: str
    allowed: list[Any]
    refused: list[Any]


def said(*parts: Any) -> list[Any]:
    """A user's message with these parts."""
    return [{"role": "user", "content": list(parts)}]


def thought(**fields: Any) -> list[Any]:
    return [{"role": "user", "content": "Hi"}, {"type": "reasoning", **fields}]


CHOICE = {"type": "choice", "question": "What?"}
CITY = {"type": "text", "text": "Rome"}
ROWS = [
    Row(
        "createChatCompletion",
        "messages",
        [
            said(CITY),
            said({"type": "image_url", "image_url": {"url": WEB, "detail": "low"}}),
            said({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}),
            said({"type": "input_audio", "input_audio": {"data": WAV, "format": "wav"}}),
            said({"type": "file", "file": {"file_data": PDF, "filename": "a.pdf", "file_id": None}}),
            [{"role": "assistant", "content": [{"type": "thinking", "thinking": "So"}, CITY]}],
        ],
        [
            said({"type": "video_url", "video_url": {"url": WEB}}),
            said({"type": "video_url"}),
            said({"type": "image_url", "image_url": WEB}),
            said({"type": "image_url", "image_url": {"url": WEB, "detail": "sharp"}}),
            said({"type": "image_url", "image_url": {"url": WEB, "size": 1}}),
            said({"type": "input_audio", "input_audio": {"data": WAV, "format": "au"}}),
            said({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}),
            said({"type": "file", "file": {"file_id": "file-0"}}),
            said({"type": "file", "file": {"file_data": ""}}),
            said({"type": "file", "file": {"file_data": PDF, "filename": "x" * 257}}),
        ],
    ),
    Row("createChatCompletion", "penstock", [{"explain": True}, {}], [{"explain": 1}, {"explains": True}]),
    Row(
        "createResponse",
        "input",
        [
            said({"type": "input_text", "text": "Hi"}),
            said({"type": "input_image", "image_url": WEB, "detail": "high"}),
            said({"type": "input_audio", "input_audio": {"data": WAV, "format": "wav"}}),
            said({"type": "input_file", "file_url": WEB, "filename": "a"}),
            [{"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, *said(CITY)],
            thought(summary=[{"type": "summary_text", "text": "So"}]),
            thought(content=[{"type": "reasoning_text", "text": "So"}]),
        ],
        [
            said({"type": "input_video", "text": "a"}),
            said({"type": "input_image", "image_url": {"url": WEB}}),
            said({"type": "input_image", "image_url": WEB, "detail": "sharp"}),
            said({"type": "input_image", "file_id": "file-0"}),
            said({"type": "input_file", "file_url": WEB, "filename": "x" * 257}),
            said({"type": "input_audio", "input_audio": {"data": WAV, "format": "au"}}),
            thought(encrypted_content="x"),
        ],
    ),
    Row("createResponse", "reasoning", [{"max_tokens": 1}], [{"max_tokens": 0}, {"max_tokens": 2**31}]),
    Row(
        "createMessage",
        "messages",
        [
            said(CITY),
            said({"type": "image", "source": {"type": "url", "url": WEB}}),
            said({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}),
            said({"type": "document", "source": {"type": "content", "content": [CITY]}, "title": "A"}),
            said({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Rome"}}),
        ],
        [
            said({"type": "video", "source": {"type": "url", "url": WEB}}),
            said({"type": "image", "source": {"type": "text", "data": "Rome"}}),
            said({"type": "image", "source": {"type": "file", "file_id": "file-0"}}),
            said({"type": "image", "source": {"type": "url", "url": WEB}, "title": "A"}),
            said({"type": "document", "source": {"type": "content", "content": [{"type": "tool_use"}]}}),
        ],
    ),
    Row(
        "createDecision",
        "decision",
        [
            {"type": "predicate", "question": "Is it?"},
            {**CHOICE, "options": ["a", "b"]},
            {"type": "score", "question": "How?", "min": 0, "max": 1},
        ],
        [
            {"type": "rank", "question": "Is it?"},
            {"type": "predicate", "question": " "},
            {**CHOICE, "options": ["a"]},
            {**CHOICE, "options": ["a", "a"]},
            {**CHOICE, "options": ["a", " "]},
            {**CHOICE, "options": [str(n) for n in range(65)]},
            {"type": "score", "question": "How?", "min": -1},
            {"type": "score", "question": "How?", "min": 0, "max": 0},
        ],
    ),
    Row(
        "createModeration",
        "input",
        ["a", ["a", "b"], [CITY], [{**CITY, "id": 1}]],
        [[], [{"type": "image_url", "image_url": {"url": WEB}}], [{"text": "a"}], [{"type": "text", "text": 1}]],
    ),
    Row(
        "createBatch",
        "output_expires_after",
        [{"anchor": "created_at", "seconds": 3600}],
        [
            {"anchor": "now", "seconds": 3600},
            {"anchor": "created_at", "seconds": 3599},
            {"anchor": "created_at", "seconds": 2_592_001},
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.operation}.{row.field}")
def test_schema_and_reader_agree(row: Row) -> None:
    operation, parse = DESCRIBED[row.operation], PARSERS[row.operation]
    whole = DOCUMENT["components"]["schemas"][operation.body.__name__]
    validator = Draft202012Validator({**whole["properties"][row.field], "components": DOCUMENT["components"]})
    base = next(iter(operation.examples.values()))
    for value in row.allowed:
        assert validator.is_valid(value), value
        parse(json.dumps({**base, row.field: value}).encode())
    for value in row.refused:
        assert not validator.is_valid(value), value
        with pytest.raises(HttpError) as refused:
            parse(json.dumps({**base, row.field: value}).encode())
        assert (refused.value.body.param or "").startswith(row.field)
