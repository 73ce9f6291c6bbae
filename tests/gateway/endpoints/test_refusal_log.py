"""Every request has one line in the log, whatever its way out: a table of all of them, before a real service."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import structlog
import trio

from config.load import parse_settings
from engine.model.vectors import EmbeddingSizes
from gateway.endpoints.api_context import ApiContext
from gateway.errors import ClientGone, HttpError
from policies.admission.keys import new_key
from tests.actors.fakes import CONFIG, Stage, says, stage
from tests.gateway.fakes import FakeService
from tests.gateway.harness import Client, Gateway, connected, gateway

KEY = new_key("acme", bytes(range(38)), "app")
POOR = new_key("poor", bytes(range(1, 39)), "poor")
TABLES = f"""
[engines.mini]
model = "mini"
[models.mini]
[[routes]]
name = "mini"
when = {{ model = ["mini"] }}
use = {{ ladder = "mini" }}
[[ladders.mini]]
to = "mini"
[[keys]]
id = "app"
tenant = "acme"
hash = "{KEY.settings.hash}"
[[keys]]
id = "poor"
tenant = "poor"
hash = "{POOR.settings.hash}"
[tenants.acme]
tokens = {{ per_minute = 5_000, per_day = 50_000 }}
requests_per_minute = 20
[tenants.poor]
tokens = {{ per_minute = 10 }}
[prices]
small = {{ input = 1_000_000, output = 1_000_000 }}
large = {{ input = 10_000_000, output = 10_000_000 }}
"""
GATE = '[[routes]]\nname = "gate"'
# Routes are looked at in order: the one for embeddings comes before the one for all.
SETTINGS = CONFIG.replace(GATE, f"{TABLES}\n{GATE}")
SECRET = "the words of the prompt"
CHAT: dict[str, Any] = {"model": "small", "max_tokens": 20, "messages": [{"role": "user", "content": SECRET}]}
FIELDS = {
    "event", "log_level", "request_id", "path", "tenant", "model", "policy", "route", "rung", "rungs", "why", "outcome",
    "code", "status", "streamed", "prompt_tokens", "cached_tokens", "completion_tokens", "discarded_tokens", "queue_s",
    "ttft_s", "total_s", "cost",
}  # fmt: skip


def bearer(raw: str) -> str:
    return f"Authorization: Bearer {raw}\r\n"


def posts(
    body: object = CHAT, *, path: str = "/v1/chat/completions", key: str = KEY.raw, headers: str = ""
) -> Callable[[Gateway, Stage], Awaitable[None]]:
    async def act(running: Gateway, _: Stage) -> None:
        client = await running.connect()
        await client.request(path, body, headers=(bearer(key) if key else "") + headers)

    return act


def sends(head: str, body: bytes = b"") -> Callable[[Gateway, Stage], Awaitable[None]]:
    async def act(running: Gateway, _: Stage) -> None:
        client = await running.connect()
        await client.send(head.replace("\n", "\r\n").encode() + b"\r\n" + body)
        await client.response()

    return act


def says_on_socket(*messages: Any, key: str = KEY.raw) -> Callable[[Gateway, Stage], Awaitable[None]]:
    async def act(running: Gateway, _: Stage) -> None:
        async with connected(running, [(b"authorization", b"Bearer " + key.encode())]) as socket:
            for message in messages:
                await socket.send(message)
                if message.get("type") == "start" and message.get("then") is None and message is not messages[-1]:
                    await socket.until("token")
            while (await socket.get())["type"] not in {"done", "error"}:
                pass

    return act


async def twice(running: Gateway, _: Stage) -> None:
    """The second one is an answer that is there already, and no request to a model."""
    client = await running.connect()
    for _number in range(2):
        await client.request("/v1/chat/completions", CHAT, headers=bearer(KEY.raw) + "Idempotency-Key: k\r\n")


async def leaves(running: Gateway, _: Stage) -> None:
    client: Client = await running.connect()
    await client.post("/v1/chat/completions", {**CHAT, "stream": True}, headers=bearer(KEY.raw))
    await client.head()
    await client.aclose()


async def breaks(running: Gateway, service: Stage) -> None:
    def fail(number: int, _: object) -> None:
        raise RuntimeError("a fault")

    service.on_step["small"] = service.on_step["large"] = fail
    await posts()(running, service)


class Way(NamedTuple):
    name: str
    act: Callable[[Gateway, Stage], Awaitable[None]]
    line: dict[str, Any]


REFUSED = {"outcome": "refused", "rung": "", "prompt_tokens": 0, "completion_tokens": 0, "cost": 0.0}
START = {"type": "start", "id": "a", **{name: CHAT[name] for name in ("model", "max_tokens", "messages")}}
WAYS = [
    Way("whole", posts(), {
        "outcome": "ok", "status": 200, "code": "", "tenant": "acme", "route": "small", "rung": "small",
        "why": "asked_for", "rungs": ["small answered asked_for"], "streamed": False, "model": "small",
        "path": "/v1/chat/completions", "prompt_tokens": 18, "completion_tokens": 8, "cost": 26.0,
    }),
    Way("stream", posts({**CHAT, "stream": True}), {
        "outcome": "ok", "status": 200, "streamed": True, "completion_tokens": 8,
    }),
    Way("escalated", posts({**CHAT, "model": "whole"}), {
        "outcome": "ok", "rung": "large", "why": "low_margin",
        "rungs": ["small escalated low_margin", "large answered low_margin"], "discarded_tokens": 4,
    }),
    Way("text", posts({"model": "small", "prompt": SECRET, "max_tokens": 20}, path="/v1/completions"), {
        "outcome": "ok", "path": "/v1/completions",
    }),
    Way("embedding", posts({"model": "mini", "input": [SECRET, "b"]}, path="/v1/embeddings"), {
        "outcome": "ok", "path": "/v1/embeddings", "rung": "mini", "completion_tokens": 0,
    }),
    Way("no key", posts(key=""), {**REFUSED, "status": 401, "code": "invalid_api_key", "tenant": ""}),
    Way("wrong key", posts(key="penstock_app_x"), {**REFUSED, "status": 401, "code": "invalid_api_key", "tenant": ""}),
    Way("model", posts({**CHAT, "model": "smal"}), {
        **REFUSED, "status": 404, "code": "model_not_found", "tenant": "acme", "model": "smal",
    }),
    Way("model's name that a terminal would obey", posts({**CHAT, "model": "a\x1b[2J\n\x9b"}), {
        **REFUSED, "status": 404, "model": "a?[2J??",
    }),
    Way("no JSON", posts(b"{"), {**REFUSED, "status": 400, "tenant": "acme"}),
    Way("field", posts({**CHAT, "temperature": 9}), {**REFUSED, "status": 400, "code": "invalid_value"}),
    Way("type", sends(
        f"POST /v1/chat/completions HTTP/1.1\nHost: localhost\n{bearer(KEY.raw).strip()}\nContent-Type: text/plain\n"
        "Content-Length: 2\n", b"{}",
    ), {**REFUSED, "status": 415, "tenant": "acme"}),
    Way("method", sends(f"GET /v1/chat/completions HTTP/1.1\nHost: localhost\n{bearer(KEY.raw).strip()}\n"), {
        **REFUSED, "status": 405, "code": "method_not_allowed", "tenant": "acme",
    }),
    Way("tags", posts(headers=f"x-penstock-tags: {'a' * 99}\r\n"), {**REFUSED, "status": 400, "code": "bad_header"}),
    Way("kept", posts(headers="Idempotency-Key: k\r\n"), {"outcome": "ok", "status": 200, "tenant": "acme"}),
    Way("kept, twice", twice, {"outcome": "ok", "status": 200, "tenant": "acme"}),
    Way("kept, refused", posts(key=POOR.raw, headers="Idempotency-Key: k\r\n"), {
        **REFUSED, "status": 429, "code": "tokens_per_minute_exceeded", "tenant": "poor", "route": "small",
    }),
    Way("kept, no key", posts(key="", headers="Idempotency-Key: k\r\n"), {
        **REFUSED, "status": 401, "code": "invalid_api_key", "tenant": "",
    }),
    Way("kept, bad header", posts(headers="Idempotency-Key: \r\n"), {
        **REFUSED, "status": 400, "code": "bad_header", "tenant": "acme",
    }),
    Way("long", posts({**CHAT, "max_tokens": 5000}), {
        **REFUSED, "status": 400, "code": "context_length_exceeded", "tenant": "acme",
    }),
    Way("grammar", posts({**CHAT, "guided_regex": "("}), {
        **REFUSED, "status": 400, "code": "grammar_invalid", "tenant": "acme", "route": "small",
    }),
    Way("large body", posts({**CHAT, "user": "x" * 70_000}), {
        **REFUSED, "status": 413, "tenant": "acme", "path": "/v1/chat/completions",
    }),
    Way("no HTTP", sends("NONSENSE\n"), {**REFUSED, "status": 400, "tenant": "", "path": ""}),
    Way("quota", posts(key=POOR.raw), {
        **REFUSED, "status": 429, "code": "tokens_per_minute_exceeded", "tenant": "poor", "route": "small",
    }),
    Way("left", leaves, {"outcome": "gone", "status": 499, "code": "client_gone", "tenant": "acme", "streamed": True}),
    Way("broken", breaks, {
        **REFUSED, "status": 422, "code": "request_quarantined", "tenant": "acme", "route": "small",
    }),
    Way("socket", says_on_socket(START), {"outcome": "ok", "status": 200, "path": "/v1/stream", "tenant": "acme"}),
    Way("socket, cancelled", says_on_socket(START, {"type": "cancel", "id": "a"}), {"outcome": "gone", "status": 499}),
    Way("socket, field", says_on_socket({**START, "top_p": 7}), {
        **REFUSED, "status": 400, "path": "/v1/stream", "tenant": "acme",
    }),
    Way("socket, model", says_on_socket({**START, "model": "x"}), {**REFUSED, "status": 404, "tenant": "acme"}),
    Way("socket, no type", says_on_socket({"id": "a"}), {**REFUSED, "status": 400, "path": "/v1/stream"}),
    Way("socket, key", sends(
        "GET /v1/stream HTTP/1.1\nHost: localhost\nUpgrade: websocket\nConnection: Upgrade\n"
        "Sec-WebSocket-Version: 13\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\n",
    ), {**REFUSED, "status": 401, "path": "/v1/stream"}),
    Way("probes have none", sends("GET /readyz HTTP/1.1\nHost: localhost\n"), {}),
]  # fmt: skip


async def lines_of(act: Callable[[Gateway, Stage], Awaitable[None]], settings: str = SETTINGS) -> list[Any]:
    scripts = {"small": says("okay then, ", {3: 0.1}, prompt=18), "large": says("okay then", prompt=18)}
    with structlog.testing.capture_logs() as logs:
        async with (
            stage(
                scripts, settings=settings, encoders={"mini": EmbeddingSizes(8)}, step_s=0.001, clean=False
            ) as service,
            gateway(service.service, limits={"max_body_bytes": 65_536}) as running,
        ):
            await act(running, service)
            while any(service.service.statistics().queues[name].inside for name in ("small", "large")):  # noqa: ASYNC110
                await trio.sleep(0.001)
    return [each for each in logs if each["event"] == "request_finished"]


@pytest.mark.parametrize("way", WAYS, ids=[way.name for way in WAYS])
async def test_one_line_whatever_the_way_out(way: Way) -> None:
    lines = await lines_of(way.act)
    if not way.line:
        assert lines == []
        return
    (line,) = lines
    assert {name: line[name] for name in way.line} == way.line
    assert set(line) == FIELDS
    assert line["total_s"] is None or line["total_s"] >= 0
    said = msgspec.json.encode(line).decode()
    assert SECRET not in said
    assert not any(raw in said for raw in (KEY.raw, POOR.raw, KEY.raw.rpartition("_")[2]))
    if line["outcome"] == "ok":
        assert 0 <= line["queue_s"] <= line["total_s"]
        assert line["request_id"]
        assert line["policy"]


async def test_the_setting_turns_them_off() -> None:
    assert await lines_of(posts(), SETTINGS + "[log]\nrequests = false\n") == []
    assert parse_settings(CONFIG, Path("/x.toml")).log.requests


@pytest.mark.parametrize(
    ("error", "outcome", "code", "status"),
    [
        (HttpError(413, "too_large", "It is."), "refused", "too_large", 413),
        (ClientGone(), "gone", "client_gone", 499),
        (RuntimeError("a fault"), "failed", "internal_error", 500),
    ],
)
async def test_whatever_ends_the_reading_has_its_line(error: Exception, outcome: str, code: str, status: int) -> None:
    api = ApiContext(service=FakeService(), max_choices=1, max_inputs=1)
    line = api.refusal_log("r", "/v1/x", trio.current_time(), None)
    with structlog.testing.capture_logs() as logs, pytest.raises(type(error)), line:
        raise error
    (said,) = logs
    assert (said["outcome"], said["code"], said["status"], said["request_id"]) == (outcome, code, status, "r")


async def test_who_leaves_while_the_request_is_let_in_has_a_line(autojump_clock: object) -> None:
    with structlog.testing.capture_logs() as logs:
        async with stage({"small": says("ok")}, settings=CONFIG) as service:
            with trio.CancelScope() as scope:
                scope.cancel()
                service.wake_admission()
                await service.open("small")
    lines = [each for each in logs if each["event"] == "request_finished"]
    assert [(each["outcome"], each["status"]) for each in lines] == [("gone", 499)]


async def test_while_models_load_and_while_it_drains(autojump_clock: object) -> None:
    with structlog.testing.capture_logs() as logs:
        async with stage({"small": says("ok")}, settings=CONFIG, ready=False, load_s=5.0) as service:
            await service.ask("small")
            await service.until_ready()
            await service.service.drain(trio.current_time())
            await service.ask("small")
    lines = [each for each in logs if each["event"] == "request_finished"]
    assert [(each["code"], each["status"]) for each in lines] == [("loading", 503), ("shutting_down", 503)]
