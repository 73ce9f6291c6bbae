"""The events of a stream, byte for byte, and the order that Anthropic's clients expect."""

from typing import Any

import msgspec
import pytest

from actors.api.errors import ErrorBody
from actors.api.response import Delta, Done, Failed, MadeCall, ResponseEvent, Start, Usage
from gateway.anthropic.message_events import MessageRenderer
from tests.gateway.anthropic.test_message_answer import CALL, IDENTITY, asked
from tests.gateway.fakes import SERVED

BEGIN = Start("tests", "small", 9)
END = Done(Usage(9, 4, 5), SERVED)
ERROR = ErrorBody(503, "server_error", "engine_failed", "It broke.")


def rendered(*events: ResponseEvent, after: int | None = None, together: bool = False, **options: Any) -> bytes:
    renderer = MessageRenderer(IDENTITY, asked("x", **options), after)
    groups = [list(events)] if together else [[event] for event in events]
    data = b"".join([renderer.render(group) for group in groups])
    assert renderer.ended
    assert renderer.failed == isinstance(events[-1], Failed)
    return data


def parsed(data: bytes) -> list[dict[str, Any]]:
    found = []
    for event in data.decode().split("\n\n")[:-1]:
        name, body = event.split("\n")
        found.append(msgspec.json.decode(body.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def test_a_stream_of_text_byte_for_byte() -> None:
    data = rendered(BEGIN, Delta(0, 'He"l', (1,)), Delta(0, "lo", (2,)), Delta(0, "", (3,), (), "stop", "x"), END)
    served = msgspec.json.encode(SERVED).decode()
    assert data.decode() == (
        'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_abc","type":"message",'
        '"role":"assistant","model":"penstock","content":[],"stop_reason":null,"stop_sequence":null,"usage":'
        '{"input_tokens":9,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}}\n\n'
        'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":'
        '{"type":"text","text":""}}\n\n'
        'event: ping\ndata: {"type":"ping"}\n\n'
        'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
        '{"type":"text_delta","text":"He\\"l"}}\n\n'
        'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
        '{"type":"text_delta","text":"lo"}}\n\n'
        'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
        'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"stop_sequence",'
        '"stop_sequence":"x"},"usage":{"input_tokens":4,"cache_creation_input_tokens":0,'
        f'"cache_read_input_tokens":5,"output_tokens":4}},"penstock":{served}}}\n\n'
        'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    )


SECOND = MadeCall(1, "call_2", "clock", "{}", {"a": 1})
EVENTS = [
    BEGIN,
    Delta(0, "", (), reasoning="Hm"),
    Delta(0, "Yes", (1,), reasoning="."),
    Delta(0, " so", (2,), calls=(CALL, SECOND)),
    Delta(0, "More", (4,)),
    Delta(0, "", (5,), (), "tool_calls"),
    END,
]


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("reasoning", [False, True])
def test_each_block_is_opened_and_closed(*, together: bool, reasoning: bool) -> None:
    blocks: list[dict[str, Any]] = []
    open_index: int | None = None
    events = parsed(rendered(*EVENTS, together=together, reasoning=reasoning))
    for event in events:
        match event["type"]:
            case "content_block_start":
                assert open_index is None
                open_index = event["index"]
                assert open_index == len(blocks)
                blocks.append({**event["content_block"], "said": ""})
            case "content_block_delta":
                assert event["index"] == open_index
                kind = event["delta"]["type"]
                field = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}[kind]
                assert blocks[-1]["type"] == {"partial_json": "tool_use"}.get(field, field)
                blocks[-1]["said"] += event["delta"][field]
            case "content_block_stop":
                assert event["index"] == open_index
                open_index = None
    thinking = [{"type": "thinking", "thinking": "", "signature": "", "said": "Hm."}] if reasoning else []
    tool = {"type": "tool_use", "name": "clock", "input": {}}
    assert blocks == [
        *thinking,
        {"type": "text", "text": "", "said": "Yes so"},
        {**tool, "id": "call_1", "said": CALL.arguments},
        {**tool, "id": "call_2", "said": "{}", "extra_content": {"a": 1}},
        {"type": "text", "text": "", "said": "More"},
    ]
    kinds = [event["type"] for event in events]
    assert kinds[:3] == ["message_start", "content_block_start", "ping"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert [kinds.count(each) for each in ("message_start", "ping", "message_delta", "message_stop")] == [1] * 4
    assert events[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}


def test_nothing_said_is_a_whole_message() -> None:
    for events in ([BEGIN, Delta(0, "", (1,), (), "stop"), END], [BEGIN, END]):
        assert [each["type"] for each in parsed(rendered(*events))] == [
            "message_start",
            "message_delta",
            "message_stop",
        ]


def test_a_failure_ends_it_with_an_error_event() -> None:
    events = parsed(rendered(BEGIN, Delta(0, "Hel", (1,)), Failed(ERROR, Usage(9, 1))))
    assert events[-1] == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "It broke.", "code": "engine_failed"},
        "request_id": "abc",
    }
    assert "message_stop" not in [each["type"] for each in events]


def test_numbers_do_not_depend_on_what_came_together() -> None:
    whole = rendered(*EVENTS, after=0)
    assert whole == rendered(*EVENTS, after=0, together=True)
    events = whole.split(b"\n\n")[:-1]
    assert [event.split(b"\n")[0] for event in events] == [b"id: %d" % number for number in range(1, len(events) + 1)]
    for after in range(len(events)):
        assert rendered(*EVENTS, after=after).split(b"\n\n")[:-1] == events[after:]


def test_a_refusal_is_a_text_that_ends_as_one() -> None:
    events = parsed(rendered(BEGIN, Delta(0, "No.", (), finish_reason="stop", refuses=True), END))
    assert events[3]["delta"] == {"type": "text_delta", "text": "No."}
    assert events[-2]["delta"]["stop_reason"] == "refusal"
