"""Responses of real servers in all their variants, with the answer expected from each; one row per variant.

`spoken` holds the bytes as sent.
"""

import gzip
import json
import zlib
from dataclasses import dataclass
from typing import Any

OFFERED = ("now", "get_weather", "get", "add")


def sse(*events: Any, done: bool = True, join: bytes = b"\n\n", field: bytes = b"data: ") -> bytes:
    said = [event if isinstance(event, bytes) else field + json.dumps(event).encode() + join for event in events]
    return b"".join(said) + (field + b"[DONE]" + join if done else b"")


def delta(content: Any = None, /, reason: Any = None, **fields: Any) -> dict[str, Any]:
    given = {} if content is None else {"content": content}
    return {"choices": [{"index": 0, "delta": {**given, **fields}, "finish_reason": reason}]}


def parts(*calls: dict[str, Any], reason: Any = None) -> dict[str, Any]:
    return delta(reason=reason, tool_calls=list(calls))


def part(index: Any = None, call_id: Any = None, /, name: Any = None, arguments: Any = "", **more: Any) -> dict:
    given = {"index": index} if index is not None else {}
    given |= {"id": call_id} if call_id is not None else {}
    function = {"arguments": arguments} | ({"name": name} if name is not None else {})
    return {**given, "function": function, **more}


def end(reason: Any = "stop", **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason, **more}]}


def whole(message: dict[str, Any], reason: Any = "stop", **more: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
    return json.dumps({"object": "chat.completion", "choices": [choice], **more}).encode()


def usage(prompt: Any, completion: Any, **more: Any) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion, **more}}


@dataclass
class Row:
    """One response."""

    name: str
    spoken: bytes
    text: str = ""
    reasoning: str = ""
    calls: tuple[tuple[str, Any], ...] = ()
    finish: str = "stop"
    tokens: int | None = None
    """Expected completion tokens; None: the gateway's own count, above 0."""
    prompt: int | None = None
    cached: int = 0
    word: str = ""
    """The upstream's own finish reason, if it is passed on."""
    broken: str = ""
    """The kind of the expected failure; the other fields are what was read before it."""
    kind: str | None = "text/event-stream"
    """Content-Type."""
    framing: str = "chunked"
    """chunked, length, close (ends with the connection), cut (chunked, connection lost), short (of its length)."""
    encoding: str = ""
    status: int = 200
    tools: bool = False
    refuses: bool = False


_RAW = zlib.compressobj(wbits=-15)
HELLO = (delta("", role="assistant"), delta("Hel"), delta("lo"))


def tools(name: str, spoken: bytes, *calls: tuple[str, Any], finish: str = "tool_calls", **more: Any) -> Row:
    return Row(name, spoken, calls=calls, finish=finish, tools=True, **more)


CALLS = [
    tools(
        "openai: the name, then the arguments in pieces",
        sse(
            parts(part(0, "c1", "add")),
            parts(part(0, arguments='{"a"')),
            parts(part(0, arguments=": 1}")),
            end("tool_calls"),
        ),
        ("add", {"a": 1}),
    ),
    tools(
        "openai: two at once",
        sse(parts(part(0, "c1", "add", "{}")), parts(part(1, "c2", "now", "")), end("tool_calls")),
        ("add", {}),
        ("now", {}),
    ),
    tools(
        "proxies: the name in each piece",
        sse(
            parts(part(0, "c1", "get_weather", '{"a"')), parts(part(0, "c1", "get_weather", ": 1}")), end("tool_calls")
        ),
        ("get_weather", {"a": 1}),
    ),
    tools(
        "proxies: the name in each piece, and no id after the first",
        sse(parts(part(0, "c1", "get_weather")), parts(part(0, None, "get_weather", "{}")), end("tool_calls")),
        ("get_weather", {}),
    ),
    tools(
        "a name cut in two",
        sse(
            parts(part(0, "c1", "get_")),
            parts(part(0, None, "weather")),
            parts(part(0, arguments="{}")),
            end("tool_calls"),
        ),
        ("get_weather", {}),
    ),
    tools(
        "a name cut in two, whose first half is a tool, too",
        sse(parts(part(0, "c1", "get")), parts(part(0, None, "_weather", "{}")), end("tool_calls")),
        ("get_weather", {}),
    ),
    tools(
        "the name so far in each piece",
        sse(parts(part(0, "c1", "get_w")), parts(part(0, "c1", "get_weather", "{}")), end("tool_calls")),
        ("get_weather", {}),
    ),
    tools(
        "vllm, older: another id in each piece",
        sse(
            parts(part(0, "c1", "add")),
            parts(part(0, "c2", None, '{"a"')),
            parts(part(0, "c3", None, ": 1}")),
            end("tool_calls"),
        ),
        ("add", {"a": 1}),
    ),
    tools(
        "ollama: two whole calls at index 0",
        sse(parts(part(0, "c1", "now", "{}")), parts(part(0, "c2", "now", "{}")), end("tool_calls")),
        ("now", {}),
        ("now", {}),
    ),
    tools(
        "ollama: two at index 0, without arguments",
        sse(parts(part(0, "c1", "now")), parts(part(0, "c2", "now")), end("tool_calls")),
        ("now", {}),
        ("now", {}),
    ),
    tools(
        "ollama: both in one event",
        sse(parts(part(0, "c1", "now", "{}"), part(0, "c2", "add", '{"a":1}')), end("stop")),
        ("now", {}),
        ("add", {"a": 1}),
    ),
    tools(
        "gemini: no index, no id, whole calls",
        sse(parts(part(None, "", "add", '{"a":1}')), parts(part(None, "", "add", '{"a":2}')), end("stop")),
        ("add", {"a": 1}),
        ("add", {"a": 2}),
    ),
    tools(
        "gemini: two in one event, at index 0 and without ids",
        sse(parts(part(0, "", "now"), part(0, "", "now")), end("stop")),
        ("now", {}),
        ("now", {}),
    ),
    tools(
        "gemini: another name at the same index",
        sse(parts(part(0, None, "now")), parts(part(0, None, "add", '{"a":1}')), end("stop")),
        ("now", {}),
        ("add", {"a": 1}),
    ),
    tools(
        "an index that is null",
        sse(
            parts({**part(None, "c1", "add", '{"a"'), "index": None}),
            parts({**part(arguments=":1}"), "index": None}),
            end(),
        ),
        ("add", {"a": 1}),
    ),
    tools(
        "cloudflare: arguments as an object, and no function",
        sse(parts({"name": "add", "arguments": {"a": 1}}), end("stop")),
        ("add", {"a": 1}),
    ),
    tools("arguments as an object", sse(parts(part(0, "c1", "add", {"a": 1})), end("tool_calls")), ("add", {"a": 1})),
    tools("arguments null", sse(parts(part(0, "c1", "now", None)), end("tool_calls")), ("now", {})),
    tools('arguments "null"', sse(parts(part(0, "c1", "now", "null")), end("tool_calls")), ("now", {})),
    tools(
        "the arguments so far in each piece",
        sse(parts(part(0, "c1", "add", '{"a"')), parts(part(0, "c1", "add", '{"a": 1}')), end("tool_calls")),
        ("add", {"a": 1}),
    ),
    tools(
        "the whole arguments twice",
        sse(parts(part(0, "c1", "add", '{"a": 1}')), parts(part(0, "c1", "add", '{"a": 1}')), end("tool_calls")),
        ("add", {"a": 1}),
    ),
    tools(
        "an index of its own that begins at one",
        sse(parts(part(1, "c1", "add", "{}")), parts(part(2, "c2", "now", "{}")), end("tool_calls")),
        ("add", {}),
        ("now", {}),
    ),
    tools("an index beyond all", sse(parts(part(500, "c1", "add", "{}")), end("tool_calls")), ("add", {})),
    tools(
        "before tools: function_call",
        sse(
            delta(function_call={"name": "add", "arguments": ""}),
            delta(function_call={"arguments": '{"a":'}),
            delta(function_call={"arguments": "1}"}),
            end("function_call"),
        ),
        ("add", {"a": 1}),
    ),
    tools(
        "in the message of the last event",
        sse(
            delta("Let me see."),
            {
                "choices": [
                    {
                        "message": {"content": "Let me see.", "tool_calls": [part(0, "c", "now", "{}")]},
                        "finish_reason": "tool_calls",
                    }
                ]
            },
        ),
        ("now", {}),
        text="Let me see.",
    ),
    tools("anthropic: tool_use", sse(parts(part(0, "c1", "add", "{}")), end("tool_use")), ("add", {})),
    tools(
        "the reason in the event of the call", sse(parts(part(0, "c1", "add", "{}"), reason="tool_calls")), ("add", {})
    ),
    tools(
        "content after a call",
        sse(parts(part(0, "c1", "now", "{}")), delta("Done."), end("stop")),
        ("now", {}),
        text="Done.",
    ),
    tools(
        "not streamed",
        whole({"content": None, "tool_calls": [part(None, "c1", "add", '{"a":1}')]}, "tool_calls"),
        ("add", {"a": 1}),
        kind="application/json",
    ),
    tools("tool_calls, and none made", sse(*HELLO, end("tool_calls")), text="Hello", finish="stop"),
    tools(
        "cut within the second call",
        sse(parts(part(0, "c1", "now", "{}")), parts(part(1, "c2", "add", '{"a')), end("length")),
        ("now", {}),
        finish="length",
    ),
    tools(
        "cut within a name", sse(delta("a"), parts(part(0, "c1", "get_wea")), end("length")), text="a", finish="length"
    ),
    tools(
        "a name that nobody offered",
        sse(parts(part(0, "c1", "rm_rf", "{}")), end("tool_calls")),
        broken="upstream_garbled",
    ),
    tools(
        "two names that make none",
        sse(parts(part(0, "c1", "nowx")), parts(part(0, None, "addy")), end("tool_calls")),
        broken="upstream_garbled",
    ),
    tools("a call without a name", sse(parts(part(0, "c1", None, "{}")), end("tool_calls")), broken="upstream_garbled"),
    tools(
        "arguments that are a list", sse(parts(part(0, "c1", "add", [1])), end("tool_calls")), broken="upstream_garbled"
    ),
    tools(
        "arguments that are cut", sse(parts(part(0, "c1", "add", '{"a"')), end("tool_calls")), broken="upstream_garbled"
    ),
    tools(
        "dashscope: empty fields in every event",
        sse(
            delta("", function_call={"name": "", "arguments": ""}, tool_calls=[]),
            parts(part(0, "c1", "add", "{}")),
            parts(part(0, "", "", "")),
            parts(part(1, "", "", "")),
            end("tool_calls"),
        ),
        ("add", {}),
    ),
    tools(
        "two at once, their pieces in turn",
        sse(
            parts(part(0, "c1", "add", '{"a"'), part(1, "c2", "get", '{"b"')),
            parts(part(1, arguments=":2}")),
            parts(part(0, arguments=":1}")),
            end("tool_calls"),
        ),
        ("add", {"a": 1}),
        ("get", {"b": 2}),
    ),
    tools(
        "the same, and the indexes are texts",
        sse(
            parts(part("0", "c1", "add", '{"a"'), part("1", "c2", "get", '{"b"')),
            parts(part("1", arguments=":2}")),
            parts(part("0", arguments=":1}")),
            end("tool_calls"),
        ),
        ("add", {"a": 1}),
        ("get", {"b": 2}),
    ),
    tools(
        "two without an index, and with one id",
        sse(parts(part(None, "add", "add", '{"a":1}')), parts(part(None, "add", "add", '{"a":2}')), end("tool_calls")),
        ("add", {"a": 1}),
        ("add", {"a": 2}),
    ),
    tools(
        "an empty object before the pieces",
        sse(parts(part(0, "c1", "add", {})), parts(part(0, arguments='{"a"')), parts(part(0, arguments=":1}")), end()),
        ("add", {"a": 1}),
    ),
    tools(
        "all of the arguments again at the end",
        sse(
            parts(part(0, "c1", "add", '{"a"')),
            parts(part(0, arguments=":1}")),
            parts(part(0, "c1", "add", '{"a":1}'), reason="tool_calls"),
        ),
        ("add", {"a": 1}),
    ),
    tools("JSON within a text", sse(parts(part(0, "c1", "add", json.dumps('{"a":1}'))), end()), ("add", {"a": 1})),
    tools("a line end in a text", sse(parts(part(0, "c1", "add", '{"a":"x\ny"}')), end()), ("add", {"a": "x\ny"})),
    tools("arguments that are an empty list", sse(parts(part(0, "c1", "now", [])), end()), ("now", {})),
    tools("anthropic: input", sse(parts({"id": "c1", "name": "add", "input": {"a": 1}}), end()), ("add", {"a": 1})),
    tools(
        "llama: parameters",
        sse(parts({"id": "c1", "function": {"name": "add", "parameters": {"a": 1}}}), end()),
        ("add", {"a": 1}),
    ),
    tools("gpt-oss: the name's namespace", sse(parts(part(0, "c1", "functions.add", "{}")), end()), ("add", {})),
    tools("a blank before the name", sse(parts(part(0, "c1", " add", "{}")), end()), ("add", {})),
    tools("a call that is no list", sse(delta(tool_calls=part(0, "c1", "add", "{}")), end("tool_calls")), ("add", {})),
    tools("tool_calls, and nothing at all", sse(end("tool_calls")), broken="upstream_garbled"),
    Row(
        "a call where no tool was offered",
        sse(parts(part(0, "c1", "add", "{}")), end("tool_calls")),
        broken="upstream_garbled",
    ),
]


def ends(word: Any, finish: str = "stop", /, **more: Any) -> Row:
    return Row(f"finish reason {word!r}", sse(*HELLO, end(word)), "Hello", finish=finish, **more)


REASONS = [
    *[
        ends(word)
        for word in (
            "stop",
            "eos",
            "eos_token",
            "end_turn",
            "stop_sequence",
            "STOP",
            "complete",
            "function_call",
            "tool_use",
            "endTurn",
            "normal",
            "FinishReason.STOP",
            {"type": "stop", "matched": 2},
        )
    ],
    *[ends(word, "length") for word in ("length", "max_tokens", "model_length", "MAX_TOKENS", "max_output_tokens")],
    *[ends(word, "length") for word in ("maxTokens", "FinishReason.MAX_TOKENS", "max-tokens", "max_output")],
    *[ends(word, "length") for word in ({"type": "length", "length": 16}, "contextLengthReached", "token_limit")],
    *[ends(word, "content_filter") for word in ("content_filter", "SAFETY", "RECITATION", "refusal", "sensitive")],
    *[ends(word, "content_filter") for word in ("guardrail_intervened", "ContentFilter", "IMAGE_SAFETY")],
    ends({"type": "abort"}, broken="upstream_truncated"),
    *[ends(word, broken="upstream_failed") for word in ("error", "network_error")],
    *[ends(word, broken="upstream_garbled") for word in ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL")],
    *[ends(word, broken="upstream_truncated") for word in ("abort", "cancelled")],
    Row(
        "insufficient_system_resource before any text", sse(end("insufficient_system_resource")), broken="upstream_busy"
    ),
    ends("insufficient_system_resource", broken="upstream_failed"),
    ends("took_a_walk", word="took_a_walk"),
    Row("no reason yet: empty, null", sse(delta("Hel", reason=""), delta("lo", reason="null"), end()), "Hello"),
    Row("no reason at all, but [DONE]", sse(*HELLO), "Hello"),
    Row("the reason with the last text", sse(delta("Hel"), delta("lo", reason="eos")), "Hello"),
    Row("a reason in each event", sse(delta("Hel", reason="stop"), delta("lo", reason="stop")), "Hello"),
    Row("two reasons", sse(*HELLO, end("stop"), end("length")), "Hello", finish="length"),
    Row("an answer that says nothing", sse(delta("", role="assistant"), end()), tokens=0),
]
LOST = "upstream_truncated"
NO_END = sse(*HELLO, end("stop"), done=False)
ENDS = [
    Row("a reason, the end of chunks, no [DONE]", NO_END, "Hello"),
    Row("a reason, its length, no [DONE]", NO_END, "Hello", framing="length"),
    Row("a reason, the connection's end as framing", NO_END, "Hello", framing="close"),
    Row("a reason, then the connection is lost", NO_END, "Hello", framing="cut"),
    Row("a reason, then it is short of its length", NO_END, "Hello", framing="short"),
    Row(
        "a reason and usage, then nothing for ever",
        sse(*HELLO, end(), usage(7, 2), done=False),
        "Hello",
        framing="open",
        prompt=7,
        tokens=2,
    ),
    Row(
        "a reason in each event, then the connection is lost",
        sse(delta("Hel", reason="stop"), delta("lo", reason="stop"), done=False),
        "Hello",
        framing="cut",
        broken=LOST,
    ),
    Row(
        "text after a reason, and no other",
        sse(delta("Hel", reason="stop"), delta("lo"), done=False),
        "Hello",
        broken=LOST,
    ),
    Row("no reason, the connection is lost", sse(*HELLO, done=False), "Hello", framing="cut", broken=LOST),
    Row("no reason, the end of chunks", sse(*HELLO, done=False), "Hello", broken=LOST),
    Row("no reason, the connection's end as framing", sse(*HELLO, done=False), "Hello", framing="close", broken=LOST),
    Row("nothing but [DONE]", sse(), broken=LOST),
    Row("nothing", b"", broken=LOST),
    Row("the last event without an empty line", sse(*HELLO, end(), done=False)[:-2], "Hello"),
    Row("[DONE] without an empty line", sse(*HELLO, end())[:-2], "Hello"),
    Row("the last event is cut", sse(*HELLO, end(), done=False) + b'data: {"usage": {"pro', "Hello"),
    Row("the event of the reason is cut", sse(*HELLO, end(), done=False)[:-9], "Hello", broken=LOST),
    Row(
        "older llama.cpp: a field called error", b'error: {"code": 400, "message": "x"}\n\n', broken="upstream_rejected"
    ),
    *[
        Row(f"an error in another form: {given}", sse(*HELLO, given), "Hello", broken="upstream_failed")
        for given in (
            {"message": "Internal server error"},
            {"message": "Endpoint request timed out", "requestId": "x"},
            {"status": "error", "message": "x"},
            {"status": "failed", "message": "x"},
            {"error_message": "x"},
            {"errorMessage": "x", "trace": []},
            {"exception": "x"},
            {"exception": {"message": "x"}},
            {"object": "error", "choices": [], "message": "x"},
            {"level": "error", "msg": "x"},
            {"type": "exception"},
        )
    ],
    *[
        Row(f"an event by name: {given!r}", sse(*HELLO, given), "Hello", broken="upstream_failed")
        for given in (
            b"event: Error\ndata: x\n\n",
            b"event: error \ndata: x\n\n",
            b"event: error\ndata:\n\n",
            b"event: error\n\n",
            b"event: exception\ndata: x\n\n",
            b'event: failed\ndata: {"at": 1}\n\n',
            b"event: response.failed\ndata: {}\n\n",
        )
    ],
    Row("an event of an unknown kind, and no reason", sse(*HELLO, {"oops": "x"}), "Hello", broken=LOST),
    Row("an event of an unknown kind, and a reason", sse(*HELLO, {"oops": "x"}, end()), "Hello"),
    *[
        Row(f"known fields beside a choice, and no reason: {given}", sse(*HELLO, given), "Hello")
        for given in ({"type": "ping"}, {"error": None}, {"id": "x", "citations": ["y"]}, {})
    ],
    *[
        Row(f"a keep-alive: {given!r}", sse(delta("Hel"), given, delta("lo"), given, end(), given), "Hello")
        for given in (
            b"data: ping\n\n",
            b"data: null\n\n",
            b"data: [PING]\n\n",
            b'data: ""\n\n',
            b"event: status\ndata: processing\n\n",
            b"event: Ping\ndata: x\n\n",
            b"event: keepalive\ndata: alive\n\n",
            b"event: heartbeat\n\n",
        )
    ],
    *[
        Row(f"after a reason: {given!r}", sse(*HELLO, end(), given, done=False), "Hello", framing="open")
        for given in (
            b"event: done\ndata: stream finished\n\n",
            {"error": {"message": "x"}},
            b"event: error\ndata: x\n\n",
            b"data: garbage\n\n",
            b"data: " + b"[" * 5000 + b"\n\n",
            end("error"),
        )
    ],
    Row("an error after text", sse(*HELLO, {"error": {"message": "no"}}), "Hello", broken="upstream_failed"),
    Row(
        "openrouter: an error with a reason",
        sse(*HELLO, {"error": {"code": 502, "message": "x"}, **end("error")}),
        "Hello",
        broken="upstream_failed",
    ),
    Row(
        "an error in a choice",
        sse({"choices": [{"error": {"code": 502, "message": "x"}, "finish_reason": "error"}]}),
        broken="upstream_failed",
    ),
]
FORMS = [
    Row("without a space", sse(*HELLO, end(), field=b"data:"), "Hello"),
    Row("CRLF", sse(*HELLO, end(), join=b"\r\n\r\n"), "Hello"),
    Row("CR", sse(*HELLO, end(), join=b"\r\r"), "Hello"),
    Row("a byte order mark", b"\xef\xbb\xbf" + sse(*HELLO, end()), "Hello"),
    Row("blank lines first", b"\n\n" + sse(*HELLO, end()), "Hello"),
    Row(
        "openrouter: comments",
        b": OPENROUTER PROCESSING\n\n" + sse(*HELLO, b": OPENROUTER PROCESSING\n\n", end()),
        "Hello",
    ),
    Row(
        "names of events",
        b"event: message\n" + sse(*HELLO, end(), done=False) + b"event: done\ndata: [DONE]\n\n",
        "Hello",
    ),
    Row("pings", sse(b'event: ping\ndata: {"type": "ping"}\n\n', *HELLO, b"data:\n\n", end()), "Hello"),
    Row("ids and retry", b"id: 1\nretry: 300\n" + sse(*HELLO, end()), "Hello"),
    Row("[DONE] between blanks", sse(*HELLO, end(), done=False) + b"data:   [DONE]  \n\n", "Hello"),
    Row("no type", sse(*HELLO, end()), "Hello", kind=None),
    Row("as plain text", sse(*HELLO, end()), "Hello", kind="text/plain; charset=utf-8"),
    Row("as JSON", sse(*HELLO, end()), "Hello", kind="application/json"),
    Row("compressed all the same", gzip.compress(sse(*HELLO, end())), "Hello", encoding="gzip"),
    Row(
        "not streamed",
        whole({"content": "Hello"}, usage={"prompt_tokens": 7, "completion_tokens": 2}),
        "Hello",
        kind="application/json",
        tokens=2,
        prompt=7,
    ),
    Row("not streamed, of a stream's type", whole({"content": "Hello"}), "Hello"),
    Row(
        "not streamed, compressed",
        gzip.compress(whole({"content": "Hello"})),
        "Hello",
        encoding="gzip",
        kind="application/json",
    ),
    Row("not streamed, and cut", whole({"content": "Hello"})[:-8], kind="application/json", broken="upstream_garbled"),
    Row("not streamed, and lost", whole({"content": "Hello"}), kind="application/json", framing="short", broken=LOST),
    Row("not streamed, no reason", whole({"content": "Hello"}, None), "Hello", kind="application/json"),
    Row("not streamed, eos", whole({"content": "Hello"}, "eos"), "Hello", kind="application/json"),
    Row(
        "not streamed, an error",
        b'{"error": {"message": "no", "code": "boom"}}',
        kind="application/json",
        broken="upstream_failed",
    ),
    Row("a web page", b"<html>", kind="text/html", broken="upstream_garbled"),
    Row(
        "a text of a text completion",
        sse({"choices": [{"text": "Hello", "index": 0}]}, {"choices": [{"text": "", "finish_reason": "stop"}]}),
        "Hello",
    ),
    Row(
        "together: the text beside the delta",
        sse(
            {"choices": [{"index": 0, "text": "Hel", "delta": {"content": "Hel"}}]},
            {"choices": [{"index": 0, "text": "lo", "delta": {"content": "lo"}, "finish_reason": "eos"}]},
        ),
        "Hello",
    ),
    Row(
        "perplexity: the message so far beside the delta",
        sse(
            {"choices": [{"delta": {"content": "Hel"}, "message": {"content": "Hel"}}]},
            {"choices": [{"delta": {"content": "lo"}, "message": {"content": "Hello"}, "finish_reason": "stop"}]},
        ),
        "Hello",
    ),
    Row(
        "not streamed, a text completion",
        json.dumps({"choices": [{"text": "Hello", "index": 0, "finish_reason": "eos_token"}]}).encode(),
        "Hello",
        kind="application/json",
    ),
    Row("empty errors", sse({**delta("Hello"), "error": {}}, {**end(), "error": ""}), "Hello"),
    Row("no reason: false", sse(delta("Hel", reason=False), delta("lo"), end()), "Hello"),
    Row(
        "an index of null",
        sse({"choices": [{"index": None, "delta": {"content": "Hello"}, "finish_reason": "stop"}]}),
        "Hello",
    ),
    Row(
        "a message at the end, with all of it",
        sse(*HELLO, {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}),
        "Hello",
    ),
    Row("only a message", sse({"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}), "Hello"),
    Row(
        "deltas called messages",
        sse(
            {"choices": [{"message": {"content": "Hel"}}]},
            {"choices": [{"message": {"content": "lo"}, "finish_reason": "stop"}]},
        ),
        "Hello",
    ),
    Row(
        "azure: filters before and after",
        sse(
            {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
            *HELLO,
            end(),
            {"choices": [{"index": 0, "content_filter_results": {}, "finish_reason": None}]},
        ),
        "Hello",
    ),
    Row(
        "vllm: usage in each event, stop_reason, token_ids",
        sse(
            {**delta("Hel", token_ids=[1]), "usage": {"prompt_tokens": 7, "completion_tokens": 1}},
            {**delta("lo"), "usage": {"prompt_tokens": 7, "completion_tokens": 2}},
            end(stop_reason=128001, token_ids=None),
        ),
        "Hello",
        tokens=2,
        prompt=7,
    ),
    Row(
        "tgi: log-probabilities nobody asked for",
        sse({"choices": [{"delta": {"content": "Hello"}, "logprobs": -0.25}]}, end("eos_token")),
        "Hello",
    ),
    Row("an index that is a text", sse({"choices": [{"index": "0", "delta": {"content": "Hello"}}]}, end()), "Hello"),
    *[
        Row(f"a field of another type: {given}", sse(delta("Hel", **given), delta("lo"), end()), "Hello")
        for given in (
            {"refusal": False},
            {"refusal": []},
            {"tool_calls": ""},
            {"tool_calls": [None]},
            {"function_call": ""},
            {"reasoning_content": False},
        )
    ],
    *[
        Row(
            f"a choice's field of another type: {given}",
            sse(*HELLO, {"choices": [{**given, "finish_reason": "stop"}]}),
            "Hello",
        )
        for given in ({"delta": ""}, {"delta": []}, {"message": ""}, {"text": {}}, {"delta": {}, "index": 0.0})
    ],
    *[Row(f"choices: {given!r}", sse({"choices": given}, *HELLO, end()), "Hello") for given in ("", {}, [None])],
    Row("one choice, and no list", b'{"choices": {"message": {"content": "Hello"}, "finish_reason": "stop"}}', "Hello"),
    Row("a message that is a text", b'{"choices": [{"message": "Hello", "finish_reason": "stop"}]}', "Hello"),
    Row("a number as the text", sse(delta(4), delta(2), end()), "42"),
    Row("python: NaN", sse({**delta("Hel"), "score": float("nan")}, delta("lo"), end()), "Hello"),
    Row("a tab in a text", sse(delta("a b"), end()).replace(b"a b", b"a\tb"), "a\tb"),
    Row("a character in two events, as escapes", sse(delta("a\ud83d"), delta("\ude00b"), end()), "a😀b"),
    Row(
        "a character in two events, as bytes",
        sse(delta("aX"), delta("Yb"), end()).replace(b"X", b"\xf0\x9f").replace(b"Y", b"\x98\x80"),
        "a😀b",
    ),
    Row("no empty line between events", sse(*HELLO, end(), join=b"\n"), "Hello"),
    Row(
        "a JSON object a line",
        b"".join(json.dumps(each).encode() + b"\n" for each in (*HELLO, end(), usage(7, 3))),
        "Hello",
        kind="application/x-ndjson",
        tokens=3,
        prompt=7,
    ),
    Row("not streamed, and [DONE]", whole({"content": "Hello"}) + b"\n\ndata: [DONE]\n\n", "Hello"),
    Row("[DONE] in quotes", sse(*HELLO, end(), done=False) + b'data: "[DONE]"\n\n', "Hello"),
    Row("flask: called HTML", sse(*HELLO, end()), "Hello", kind="text/html; charset=utf-8"),
    Row("a page of no type", b"<!doctype html><p>", kind=None, broken="upstream_garbled"),
    Row(
        "two members of gzip",
        gzip.compress(sse(*HELLO, done=False)) + gzip.compress(sse(end())),
        "Hello",
        encoding="gzip",
    ),
    Row("deflate without a head", _RAW.compress(sse(*HELLO, end())) + _RAW.flush(), "Hello", encoding="deflate"),
    Row("an encoding that is an alphabet", sse(*HELLO, end()), "Hello", encoding="utf-8"),
    Row("brotli", b"\x8b\x02\x80hello\x03", encoding="br", broken="upstream_garbled"),
    Row("created", sse(*HELLO, end()), "Hello", status=201),
    Row("from a cache", whole({"content": "Hello"}), "Hello", status=203, kind="application/json"),
    Row("accepted, and no answer", b"", status=202, kind=None, broken=LOST),
    Row("a refusal", sse(delta(None, refusal="I cannot."), end()), "I cannot.", refuses=True),
    Row("a refusal, in pieces", sse(delta(refusal="I "), delta(refusal="cannot."), end()), "I cannot.", refuses=True),
    Row("a refusal, whole", whole({"content": None, "refusal": "No."}), "No.", kind="application/json", refuses=True),
    Row("a refusal as a part", sse(delta([{"type": "refusal", "refusal": "No."}]), end()), "No.", refuses=True),
    Row("no refusal", sse(delta("Hello", refusal=None), end()), "Hello"),
    Row(
        "mistral: parts",
        sse(delta([{"type": "text", "text": "Hel"}]), delta([{"type": "text", "text": "lo"}]), end()),
        "Hello",
    ),
    Row(
        "mistral: a part that is no text",
        sse(delta([{"type": "reference", "reference_ids": [1]}, {"type": "text", "text": "Hello"}]), end()),
        "Hello",
    ),
]
THOUGHTS = [
    Row("deepseek", sse(delta(None, reasoning_content="hm"), delta("42"), end()), "42", "hm"),
    Row("openrouter, groq", sse(delta("", reasoning="hm"), delta("42"), end()), "42", "hm"),
    Row(
        "openrouter: twice",
        sse(
            delta("", reasoning="hm", reasoning_details=[{"type": "reasoning.text", "text": "hm"}]), delta("42"), end()
        ),
        "42",
        "hm",
    ),
    Row(
        "openrouter: details alone",
        sse(
            delta("", reasoning=None, reasoning_details=[{"type": "reasoning.summary", "summary": "hm"}]),
            delta("42"),
            end(),
        ),
        "42",
        "hm",
    ),
    Row(
        "vllm: under both names",
        sse(delta(None, reasoning="hm", reasoning_content="hm"), delta("42"), end()),
        "42",
        "hm",
    ),
    Row(
        "magistral",
        sse(
            delta([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]),
            delta([{"type": "text", "text": "42"}]),
            end(),
        ),
        "42",
        "hm",
    ),
    Row(
        "anthropic's parts",
        whole({"content": [{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "42"}]}),
        "42",
        "hm",
        kind="application/json",
    ),
    Row("thinking beside", sse(delta("", thinking="hm"), delta("42"), end()), "42", "hm"),
    Row("not streamed", whole({"content": "42", "reasoning_content": "hm"}), "42", "hm", kind="application/json"),
    Row("both in one event", sse(delta("42", reasoning_content="hm", reason="stop")), "42", "hm"),
    Row("nothing but thoughts", sse(delta(None, reasoning_content="hm"), end("length")), "", "hm", finish="length"),
]


def counts(
    name: str, given: Any, tokens: int, prompt: int | None = None, cached: int = 0, *, text: str = "Hello"
) -> Row:
    halves = (delta(text[: len(text) // 2]), delta(text[len(text) // 2 :]))
    return Row(
        f"usage: {name}",
        sse(*halves, end(), {"choices": [], "usage": given}),
        text,
        tokens=tokens,
        prompt=prompt,
        cached=cached,
    )


LONG = "It was a bright cold day in April, and the clocks were striking thirteen."
COUNTS = [
    counts(
        "openai",
        {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10, "prompt_tokens_details": {"cached_tokens": 4}},
        3,
        7,
        4,
    ),
    counts(
        "deepseek",
        {"prompt_tokens": 7, "completion_tokens": 3, "prompt_cache_hit_tokens": 5, "prompt_cache_miss_tokens": 2},
        3,
        7,
        5,
    ),
    counts(
        "deepseek, without a sum",
        {"completion_tokens": 3, "prompt_cache_hit_tokens": 5, "prompt_cache_miss_tokens": 2},
        3,
        7,
        5,
    ),
    counts("gemini: thoughts beside", {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 30}, 23, 7),
    counts(
        "openai: thoughts within",
        {
            "prompt_tokens": 7,
            "completion_tokens": 23,
            "total_tokens": 30,
            "completion_tokens_details": {"reasoning_tokens": 20},
        },
        23,
        7,
    ),
    counts("anthropic", {"input_tokens": 7, "output_tokens": 3}, 3, 7),
    counts("floats", {"prompt_tokens": 7.0, "completion_tokens": 3.0}, 3, 7),
    counts("null fields", {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": None}, 3, 7),
    counts(
        "more cached than read",
        {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 9}},
        3,
        7,
        7,
    ),
    counts("{}", {}, 2),
    counts("null", None, 2),
    counts("zeros", {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, 2),
    counts("no completion", {"prompt_tokens": 7}, 2, 7),
    counts("no prompt", {"prompt_tokens": 0, "completion_tokens": 3}, 3),
    counts("only a sum", {"total_tokens": 10}, 2),
    counts("a sum and the prompt", {"prompt_tokens": 7, "total_tokens": 10}, 3, 7),
    counts("negative", {"prompt_tokens": -7, "completion_tokens": -1}, 2),
    counts("a part of a token", {"prompt_tokens": 7, "completion_tokens": 2.5}, 2, 7),
    counts("beyond all", {"prompt_tokens": 10**30, "completion_tokens": 10**30}, 2),
    counts("more than was asked for", {"prompt_tokens": 7, "completion_tokens": 140}, 140, 7),
    counts("a million more than was asked for", {"prompt_tokens": 7, "completion_tokens": 1_000_000_000}, 2, 7),
    counts(
        "more than was asked for, of reasoning",
        {"prompt_tokens": 7, "completion_tokens": 9000, "completion_tokens_details": {"reasoning_tokens": 8998}},
        9000,
        7,
    ),
    counts("a sum beyond all", {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10**9}, 2, 7),
    counts(
        "anthropic: what went through the cache",
        {"input_tokens": 7, "output_tokens": 3, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20},
        3,
        127,
        100,
    ),
    counts(
        "litellm: both", {"prompt_tokens": 107, "completion_tokens": 3, "cache_read_input_tokens": 100}, 3, 107, 100
    ),
    counts("bedrock", {"inputTokens": 7, "outputTokens": 3, "totalTokens": 10}, 3, 7),
    counts("words", {"prompt_tokens": "seven", "completion_tokens": "three"}, 2),
    counts("a list", [1, 2], 2),
    counts("fewer than can be", {"prompt_tokens": 7, "completion_tokens": 1}, 8, 7, text=LONG),
    counts("few for a long line", {"prompt_tokens": 7, "completion_tokens": 2}, 2, 7, text="=" * 80),
    Row(
        "usage: groq",
        sse(*HELLO, {**end(), "x_groq": {"usage": {"prompt_tokens": 7, "completion_tokens": 3}}}),
        "Hello",
        tokens=3,
        prompt=7,
    ),
    Row(
        "usage: moonshot, in the choice",
        sse(*HELLO, end(usage={"prompt_tokens": 7, "completion_tokens": 3, "cached_tokens": 2})),
        "Hello",
        tokens=3,
        prompt=7,
        cached=2,
    ),
    Row(
        "usage: llama.cpp's timings",
        sse(*HELLO, {**end(), "timings": {"cache_n": 4, "prompt_n": 3, "predicted_n": 3}}),
        "Hello",
        tokens=3,
        prompt=7,
        cached=4,
    ),
    Row(
        "usage: with the reason",
        sse(*HELLO, {**end(), "usage": {"prompt_tokens": 7, "completion_tokens": 3}}),
        "Hello",
        tokens=3,
        prompt=7,
    ),
    Row(
        "usage: first the prompt, then the rest",
        sse(
            {**delta("Hel"), "usage": {"prompt_tokens": 7, "completion_tokens": 0}},
            delta("lo"),
            {**end(), "usage": {"prompt_tokens": 0, "completion_tokens": 3}},
        ),
        "Hello",
        tokens=3,
        prompt=7,
    ),
    Row(
        "usage: then nothing",
        sse(*HELLO, end(), usage(7, 3), {"choices": [], "usage": {}}, {"choices": [], "usage": None}),
        "Hello",
        tokens=3,
        prompt=7,
    ),
]
GROUPS = {"calls": CALLS, "reasons": REASONS, "ends": ENDS, "forms": FORMS, "thoughts": THOUGHTS, "counts": COUNTS}
ROWS = [(f"{group}: {row.name}", row) for group, rows in GROUPS.items() for row in rows]
