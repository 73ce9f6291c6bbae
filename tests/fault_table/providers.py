"""Faults of providers: an upstream is the first rung, and what it does wrong is the case."""

from collections.abc import Callable
from typing import Any

import trio

from tests.actors.fakes import says
from tests.actors.upstream.network import Asked, Server, event
from tests.fault_table import upstreams as up
from tests.fault_table.case import Case
from tests.fault_table.scene import PROMPT_TOKENS, SERVICE, TEXT, TEXT_TOKENS, Scene

GROUP = "provider"
ENGINES = {name: says(TEXT, prompt=PROMPT_TOKENS) for name in ("small", "large")}
GOOD = {"a": up.answers(), "b": up.answers()}
CANNOT_GO_ON = SERVICE.replace('["http://b/v1"]\nmodel = "llama"\ntokenizer = "small"\n', '["http://b/v1"]\n').replace(
    'supports = ["sampling", "continue"]\n[models.stops]', 'supports = ["sampling"]\n[models.stops]'
)
STOPS_SHORT = SERVICE.replace(
    'supports = ["sampling", "continue"]\n[upstreams.other]', 'supports = ["sampling"]\n[upstreams.other]'
)
"""Upstream cloud continues no text."""
WAITS_OUT = SERVICE.replace('to = "cloud"\nttft = "5s"', 'to = "cloud"\nttft = "5s"\nwait_out = "2s"').replace(
    'to = "cloud"\nretries = 2', 'to = "cloud"\nretries = 2\nwait_out = "2s"'
)


def case(what: str, faulty: Callable[[Scene], Server | None], model: str = "cloud", **more: Any) -> Case:
    """`faulty` makes the server that upstream cloud has from then on; None: none listens there."""

    def arm(here: Scene) -> None:
        server = faulty(here)
        if server is None:
            here.network.refuses.add("a")
            # The connection that was kept is closed, too.
            server = up.fails_after(here, -1, up.closes)
        here.network.servers["a"] = server

    asked = {"cloud": "an engine is next", "two-clouds": "an upstream is next", "cloud-only": "nothing is next"}[model]
    given = {"servers": GOOD, "scripts": ENGINES, **more}
    return Case(GROUP, what, arm, asked=given.pop("asked", asked), body={"model": model}, **given)


def after(pieces: int, then: up.Then) -> Callable[[Scene], Server]:
    return lambda here: up.fails_after(here, pieces, then)


def then_good(*thens: tuple[int, up.Then]) -> Callable[[Scene], Server]:
    """These faults, one a call, and then an upstream without."""
    return lambda here: up.first(*[up.fails_after(here, pieces, then) for pieces, then in thens], up.answers())


async def _slow_start(asked: Asked) -> None:
    await trio.sleep(3)
    await up.answers()(asked)


async def _drips(asked: Asked) -> None:
    await up.begin(asked, up.text_deltas(), pause_s=4)
    await up.end(asked, completion=TEXT_TOKENS)


async def _malformed_chunk(asked: Asked) -> None:
    await asked.send(b"zzz\r\nnonsense")


async def _malformed_json(asked: Asked) -> None:
    await asked.chunk(b'data: {"choices": [{"ind\n\n')


async def _error_event(asked: Asked) -> None:
    await asked.chunk(event(error={"message": "The model crashed.", "code": "internal"}))
    await up.end(asked, reason=None)


async def _no_end(asked: Asked) -> None:
    await up.end(asked, reason=None, done=False)


async def _no_done(asked: Asked) -> None:
    await up.begin(asked, up.text_deltas())
    await up.end(asked, completion=TEXT_TOKENS, done=False)


async def _ends_twice(asked: Asked) -> None:
    await up.begin(asked, up.text_deltas())
    await up.end(asked, completion=TEXT_TOKENS, whole=False)
    await up.end(asked, completion=TEXT_TOKENS)


async def _other_model(asked: Asked) -> None:
    await asked.send(up.HEAD)
    for piece in up.PIECES:
        choice = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
        await asked.chunk(event(model="another-model", choices=[choice]))
    await up.end(asked, completion=TEXT_TOKENS)


async def _filtered(asked: Asked) -> None:
    await up.end(asked, reason="content_filter", completion=4)


def refusal(code: str) -> bytes:
    return b'{"error": {"message": "No.", "type": "invalid_request_error", "code": "%b"}}' % code.encode()


def _as_it_is(server: Server) -> Callable[[Scene], Server]:
    async def serve(here: Scene, asked: Asked) -> None:
        here.struck()
        await server(asked)

    return lambda here: lambda asked: serve(here, asked)


async def _empty_piece(asked: Asked) -> None:
    await asked.chunk(event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}]))
    await up.closes(asked)


def _busy(wait_s: int) -> tuple[int, up.Then]:
    return -1, up.status(429, f"retry-after: {wait_s}")


CUT = (3, up.closes)
_WAIT_OUT = '`wait_out = "2s"`'
_CANNOT = {"settings": STOPS_SHORT, "asked": "nothing is next, and it continues no text"}
PROVIDERS = [
    case("connections are refused", lambda _: None),
    case("connections are refused", lambda _: None, "cloud-only"),
    case("the connection is reset before a response", after(-1, up.closes)),
    case("the connection is reset before a response, once", then_good((-1, up.closes)), "cloud-only"),
    case("it takes the request and says nothing", after(-1, up.says_nothing)),
    case("it takes the request and says nothing", after(-1, up.says_nothing), "cloud-only"),
    case("it takes the request and says nothing", after(-1, up.says_nothing), "two-clouds"),
    case("a head, and no first token", after(0, up.says_nothing)),
    case("the first token takes 3 s of the 5 s that it has", _as_it_is(_slow_start)),
    case("cut after 3 tokens", after(3, up.closes)),
    case("cut after 3 tokens", after(3, up.closes), "two-clouds"),
    case("cut after 3 tokens", after(3, up.closes), "cloud-only", settles_s=30.0),
    case("cut after 3 tokens, once", then_good(CUT), "cloud-only"),
    case("cut after 3 tokens, once", then_good(CUT), "cloud-only", transport="WebSocket"),
    case("cut after 3 tokens, once", then_good(CUT), "cloud-only", transport="whole"),
    case("cut after 3 tokens, twice", then_good(CUT, CUT), "cloud-only"),
    case("cut after 3 tokens, once", then_good(CUT), "cloud-only", **_CANNOT),
    case("cut after 3 tokens, once", then_good(CUT), "cloud-only", **_CANNOT, transport="whole"),
    case("cut after an empty piece, once", then_good((0, _empty_piece)), "cloud-only", **_CANNOT),
    case("cut after 3 tokens", after(3, up.closes), transport="whole"),
    case("cut after all tokens, before their end", after(len(up.PIECES), up.closes)),
    case("stalls after 3 tokens", after(3, up.says_nothing)),
    case("stalls after 3 tokens", after(3, up.says_nothing), "cloud-only", settles_s=30.0),
    case("stalls after 3 tokens, once", then_good((3, up.says_nothing)), "cloud-only", settles_s=30.0),
    case("stalls after 3 tokens, once", then_good((3, up.says_nothing)), "cloud-only", transport="whole"),
    case("stalls after 3 tokens, once", then_good((3, up.says_nothing)), "cloud-only", **_CANNOT, settles_s=30.0),
    case("a token every 4 s", _as_it_is(_drips)),
    case("a malformed chunk after 3 tokens", after(3, _malformed_chunk)),
    case("a malformed chunk after 3 tokens, once", then_good((3, _malformed_chunk)), "cloud-only"),
    case("malformed JSON after 3 tokens", after(3, _malformed_json)),
    case("malformed JSON first", after(0, _malformed_json)),
    case("an error event after 3 tokens, then `[DONE]`", after(3, _error_event)),
    case("an error event first, then `[DONE]`", after(0, _error_event)),
    case("the body ends after 3 tokens, without a finish reason", after(3, _no_end)),
    case("a finish reason, and no `[DONE]`", _as_it_is(_no_done)),
    case("two ends", _as_it_is(_ends_twice)),
    case("429 with `Retry-After: 3`", after(-1, up.status(429, "retry-after: 3"))),
    case("429 with `Retry-After: 3`", after(-1, up.status(429, "retry-after: 3")), "cloud-only"),
    case("429 without `Retry-After`", after(-1, up.status(429)), "cloud-only"),
    case("429 once", then_good((-1, up.status(429, "retry-after: 1"))), "cloud-only"),
    *[
        case(
            f"429 with `Retry-After: {wait_s}`, {how}", fault, model, settings=WAITS_OUT, asked=f"{asked}, {_WAIT_OUT}"
        )
        for wait_s, how, fault, model, asked in (
            (1, "once", then_good(_busy(1)), "cloud-only", "nothing is next"),
            (1, "once", then_good(_busy(1)), "cloud", "an engine is next"),
            (1, "twice", then_good(_busy(1), _busy(1)), "cloud-only", "nothing is next"),
            (1, "twice", then_good(_busy(1), _busy(1)), "cloud", "an engine is next"),
            (3, "once", then_good(_busy(3)), "cloud-only", "nothing is next"),
            (3, "once", then_good(_busy(3)), "cloud", "an engine is next"),
        )
    ],
    case("503 once", then_good((-1, up.status(503))), "cloud-only"),
    case("503 twice", then_good((-1, up.status(503)), (-1, up.status(503))), "cloud-only"),
    case("503 always", after(-1, up.status(503)), "cloud-only", settles_s=30.0),
    case("500 always", after(-1, up.status(500))),
    case(
        "flapping: 503, reset, cut after 3 tokens, and then good",
        then_good((-1, up.status(503)), (-1, up.closes), CUT),
        "cloud-only",
    ),
    case("another model than was asked for answers", _as_it_is(_other_model)),
    case("400 `context_length_exceeded`", after(-1, up.status(400, body=refusal("context_length_exceeded")))),
    case(
        "400 `context_length_exceeded`",
        after(-1, up.status(400, body=refusal("context_length_exceeded"))),
        "cloud-only",
    ),
    case("400 `content_filter`", after(-1, up.status(400, body=refusal("content_filter")))),
    case("finish reason `content_filter` after 3 tokens", after(3, _filtered), says_why="content_filter"),
    case("401, the key is wrong", after(-1, up.status(401))),
    case("a web page with status 200", after(-1, up.status(200, "content-type: text/html", body=b"<h1>Hi</h1>"))),
    case(
        "cut after 3 tokens",
        after(3, up.closes),
        "two-clouds",
        asked="an upstream is next that cannot continue",
        settings=CANNOT_GO_ON,
    ),
    case(
        "cut after 3 tokens",
        after(3, up.closes),
        "two-clouds",
        asked="an upstream is next that cannot continue",
        settings=CANNOT_GO_ON,
        transport="whole",
    ),
    case("cut after 3 tokens", after(3, up.closes), transport="WebSocket"),
]
