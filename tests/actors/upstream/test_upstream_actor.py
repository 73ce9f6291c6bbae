"""An upstream as a rung, through all actors: only a complete response is an answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.api.request import ChatMessage, ChatPrompt, TextPrompt
from actors.api.response import Delta, Failed
from actors.protocol.job import StartJob
from actors.upstream.reading.sse import MAX_EVENT_BYTES
from engine.sampling.grammar import Grammar
from engine.text.tool_calls import Tool, ToolSet
from tests.actors.fakes import CONFIG, Answer, Stage, says
from tests.actors.fakes import stage as service_stage
from tests.actors.upstream.dialects import delta, end, sse
from tests.actors.upstream.network import HEAD, Asked, Network, Server, event
from tests.actors.upstream.network import says as upstream_says
from tests.engine.tiny_tokenizers import byte_level_tokenizer

UPSTREAM = """
[upstreams.cloud]
urls = ["http://a/v1"]
model = "llama"
concurrent = 4
[models.cloud]
[models.cloud-only]
[models.cascade]
[models.goes-on]
[models.begins-there]
[[ladders.cloud-first]]
to = "cloud"
ttft = "5s"
[[ladders.cloud-first]]
to = "small"
mark = "fallback"
[[ladders.cloud-only]]
to = "cloud"
[[ladders.small-then-cloud]]
to = "small"
[[ladders.small-then-cloud]]
to = "cloud"
[cascades.upward]
stages = ["small", "cloud"]
defer = { threshold = 1.0 }
emit = { mode = "window", window = 3 }
on_failure = "cloud-only"
[[routes]]
name = "cloud"
when = { model = ["cloud"] }
use = { ladder = "cloud-first" }
[[routes]]
name = "cloud-only"
when = { model = ["cloud-only"] }
use = { ladder = "cloud-only" }
deadlines = { ttft = "10s", stall = "10s", total = "120s" }
[[routes]]
name = "cascade"
when = { model = ["cascade"] }
use = { cascade = "upward" }
[[routes]]
name = "goes-on"
when = { model = ["goes-on"] }
use = { ladder = "small-then-cloud" }
midstream = "continue"
[[routes]]
name = "begins-there"
when = { model = ["begins-there"] }
use = { ladder = "cloud-first" }
midstream = "continue"
"""
SHARED = 'tokenizer = "small"\nsupports = ["sampling", "continue"]\n'
CHAT = (ChatPrompt((ChatMessage("user", "Hi there"),)),)
HI = len(byte_level_tokenizer().encode("Hi there"))
FINE = {"small": says("fine", prompt=HI)}


def config(extra: str = "") -> str:
    """The usual service with an upstream whose routes come first; `extra` is added to the upstream's table."""
    first_route = CONFIG.index("[[routes]]")
    upstream = UPSTREAM.replace('model = "llama"\n', 'model = "llama"\n' + extra, 1)
    return CONFIG[:first_route] + upstream + CONFIG[first_route:]


@asynccontextmanager
async def stage(
    server: Server | dict[str, Server], scripts=None, *, extra: str = "", text: str | None = None, **engines: Any
) -> AsyncIterator[tuple[Stage, Network]]:
    """A service with an upstream; afterwards no task, connection, slot or reservation may remain."""
    async with trio.open_nursery() as nursery:
        network = Network(nursery, server if isinstance(server, dict) else {"a": server})
        async with service_stage(
            scripts or {}, settings=text or config(extra), network=network.connect, **engines
        ) as built:
            yield built, network
            await built.assert_clean()
            upstream = built.service.statistics().upstreams["cloud"]
            assert (upstream.running, upstream.waiting) == (0, 0)
            assert all(each.outstanding == 0 for each in upstream.replicas.values())
        # The service has ended: not even idle connections remain.
        await wait_all_tasks_blocked()
        assert network.open == 0
        nursery.cancel_scope.cancel()


def outcomes(answer: Answer) -> list[tuple[str, str, str]]:
    return [(each.rung, each.outcome, each.why) for each in answer.end.served.attempts]


def failures(service: Stage) -> dict[str, int]:
    return dict(service.service.statistics().upstreams["cloud"].failures_total)


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_upstream_answers(autojump_clock, streamed):
    async with stage(upstream_says("Hel", "lo", pause_s=0.1)) as (service, network):
        answer = await service.ask("cloud", prompts=CHAT, streamed=streamed, temperature=0.5)
        assert (answer.text(), answer.reasons()) == ("Hello", ["stop"])
        assert (answer.start.rung, answer.end.served.rung, answer.end.served.mark) == ("cloud", "cloud", None)
        assert (answer.end.usage.prompt_tokens, answer.end.usage.completion_tokens) == (11, 2)
        asked = network.asked[0]
        assert (asked.target, asked.body["model"], asked.body["temperature"]) == ("/v1/chat/completions", "llama", 0.5)
        assert asked.headers["accept-encoding"] == "identity"
        assert "authorization" not in asked.headers
        await service.assert_clean()
        row = service.row("r1")
        assert (row["prompt_tokens"], row["completion_tokens"], row["outcome"]) == (11, 2, "ok")
        figures = service.service.statistics().upstreams["cloud"]
        assert (figures.requests_total, dict(figures.failures_total), sum(figures.ttft.counts)) == (1, {}, 1)


OTHERS_EVENTS = sse(delta("another's"), end())
OTHERS = HEAD + b"%x\r\n%b\r\n0\r\n\r\n" % (len(OTHERS_EVENTS), OTHERS_EVENTS)


@pytest.mark.parametrize("leftover", [OTHERS, b"garbage\r\n\r\n", b"\r\n\r\n"], ids=["answer", "garbage", "blank"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_what_is_left_of_one_answer_is_nobody_elses(autojump_clock, leftover, framing):
    async def serve(asked: Asked) -> None:
        question = asked.body["messages"][-1]["content"]
        spoken = sse(delta(f"to {question}"), end())
        if framing == "chunked":
            await asked.send(HEAD + b"%x\r\n%b\r\n0\r\n\r\n" % (len(spoken), spoken) + leftover)
        else:
            await asked.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(spoken) + spoken + leftover)

    async with stage(serve) as (service, network):
        for name in ("one", "two"):
            prompts = (ChatPrompt((ChatMessage("user", name),)),)
            assert (await service.ask("cloud-only", prompts=prompts)).text() == f"to {name}"
        assert len(network.asked) == 2


async def test_a_connection_is_used_again(autojump_clock):
    async with stage(upstream_says("a")) as (service, network):
        for _ in range(3):
            assert (await service.ask("cloud", prompts=CHAT)).text() == "a"
            # The end of the body comes after that of the answer.
            await wait_all_tasks_blocked()
        assert network.open == 1


async def test_several_choices_are_several_calls(autojump_clock):
    async with stage(upstream_says("a", "b")) as (service, network):
        answer = await service.ask("cloud", prompts=(TextPrompt("x"), TextPrompt("y")), n=3, seed=5)
        assert [answer.text(index) for index in range(6)] == ["ab"] * 6
        assert (answer.end.usage.prompt_tokens, answer.end.usage.completion_tokens) == (22, 12)
        assert sorted((each.body["prompt"], each.body["seed"]) for each in network.asked) == [
            (prompt, seed) for prompt in "xy" for seed in (5, 6, 7)
        ]


async def test_no_more_than_concurrent_at_once(autojump_clock):
    most = running = 0

    async def count(asked: Asked) -> None:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await asked.say("a", pause_s=1)
        await asked.end(completion=1)
        running -= 1

    async with stage(count) as (service, network), trio.open_nursery() as nursery:
        for _ in range(7):
            nursery.start_soon(lambda: service.ask("cloud-only", prompts=CHAT))
        nursery.start_soon(lambda: service.ask("cloud-only", prompts=CHAT, n=6))
    assert (most, len(network.asked)) == (4, 13)


async def test_whoever_leaves_closes_the_connection_at_once(autojump_clock):
    async with stage(upstream_says("a", "b", "c", pause_s=5)) as (service, network):
        response = await service.open("cloud-only", prompts=CHAT)
        await response.next_events()
        assert network.open == 1
        now = trio.current_time()
        response.close()
        await wait_all_tasks_blocked()
        assert (network.open, trio.current_time()) == (0, now)
        await service.assert_clean()
        assert service.row("r1")["completion_tokens"] == 1


async def test_a_slow_reader_loses_no_count(autojump_clock):
    texts = [f"{number} " for number in range(200)]
    async with stage(upstream_says(*texts, completion=300)) as (service, _):
        response = await service.open("cloud-only", prompts=CHAT)
        events = await response.next_events()
        await trio.sleep(5)
        answer = await service.read(response)
        answer.events[:0] = events
        assert answer.text() == "".join(texts)
        assert answer.end.usage.completion_tokens == 300


# --- faults before the first content: the ladder goes on ------------------------------------------------------------


async def _broken_head(asked: Asked) -> None:
    await asked.send(b"HTTP/9.9 hello\r\n\r\n")


async def _closed_at_once(asked: Asked) -> None:
    await asked.stream.aclose()


async def _web_page(asked: Asked) -> None:
    await asked.status(200, "content-type: text/html", body=b"<h1>Welcome</h1>")


async def _compressed(asked: Asked) -> None:
    await asked.send(HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: br\r\n\r\n"))


async def _error_event(asked: Asked) -> None:
    await asked.say()
    await asked.chunk(event(error={"message": "no", "code": "boom"}))


async def _empty(asked: Asked) -> None:
    await asked.say()
    await asked.send(b"0\r\n\r\n")


async def _only_done(asked: Asked) -> None:
    await asked.say()
    await asked.chunk(b"data: [DONE]\n\n")


async def _huge_line(asked: Asked) -> None:
    await asked.say()
    for _ in range(MAX_EVENT_BYTES // (1 << 20) + 1):
        await asked.chunk(b"x" * (1 << 20))


async def _endless_head(asked: Asked) -> None:
    await asked.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        await asked.send(b"x-more: " + b"x" * 1000 + b"\r\n")


def status(code: int, *headers: str, body: bytes = b"{}") -> Server:
    async def serve(asked: Asked) -> None:
        await asked.status(code, *headers, body=body)

    return serve


FAULTS: list[tuple[Server, str, str]] = [
    (_broken_head, "failed", "upstream_error"),
    (_closed_at_once, "failed", "upstream_error"),
    (_endless_head, "failed", "upstream_error"),
    (_web_page, "failed", "upstream_garbled"),
    (_compressed, "failed", "upstream_garbled"),
    (_error_event, "failed", "upstream_failed"),
    (_empty, "failed", "upstream_truncated"),
    (_only_done, "failed", "upstream_truncated"),
    (_huge_line, "failed", "upstream_garbled"),
    (status(500), "failed", "upstream_error"),
    (status(401), "failed", "upstream_misconfigured"),
    (status(307, "location: http://elsewhere/v1"), "failed", "upstream_misconfigured"),
    (status(429, "retry-after: 3"), "refused", "upstream_busy"),
    (status(400), "refused", "upstream_rejected"),
    (status(400, body=b'{"error": {"code": "context_length_exceeded"}}'), "refused", "prompt_too_long"),
]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(("server", "outcome", "kind"), FAULTS)
async def test_a_fault_before_content_is_a_step_down_the_ladder(autojump_clock, server, outcome, kind, streamed):
    async with stage(server, FINE) as (service, network):
        answer = await service.ask("cloud", prompts=CHAT, streamed=streamed)
        assert answer.text() == "fine"
        assert outcomes(answer) == [("cloud", outcome, kind), ("small", "answered", kind)]
        assert answer.end.served.mark == "fallback"
        assert failures(service) == {kind: 1}
        assert {each.host for each in network.asked} == {"a"}
        await service.assert_clean()
        row = service.row("r1")
        assert row["completion_tokens"] == answer.end.usage.completion_tokens == len(answer.tokens())


async def test_a_refused_connection(autojump_clock):
    async with stage({}, FINE) as (service, _):
        answer = await service.ask("cloud", prompts=CHAT)
        assert outcomes(answer)[0] == ("cloud", "failed", "upstream_unreachable")


async def test_a_connection_that_never_comes(autojump_clock):
    async with stage(upstream_says("a"), FINE, extra='connect = "2s"\n') as (
        service,
        network,
    ):
        network.connect_s = 1000
        began = trio.current_time()
        answer = await service.ask("cloud", prompts=CHAT)
        assert outcomes(answer)[0] == ("cloud", "failed", "upstream_unreachable")
        assert trio.current_time() - began < 4


@pytest.mark.parametrize("headed", [False, True])
async def test_silence_before_content(autojump_clock, headed):
    async def silent(asked: Asked) -> None:
        if headed:
            await asked.say()
        while True:
            await trio.sleep(1)
            if headed:
                await asked.chunk(b": still here\n\n")

    async with stage(silent, FINE) as (service, network):
        began = trio.current_time()
        answer = await service.ask("cloud", prompts=CHAT)
        assert outcomes(answer) == [("cloud", "failed", "ttft_timeout"), ("small", "answered", "ttft_timeout")]
        assert 5 <= trio.current_time() - began < 7
        assert failures(service) == {"upstream_silent": 1}
        assert service.service.statistics().upstreams["cloud"].replicas["http://a/v1"].failed_total == 1
        assert network.open == 0


async def test_nobody_else_is_left_to_answer(autojump_clock):
    async with stage(status(401)) as (service, _):
        refusal = (await service.ask("cloud-only", prompts=CHAT)).refusal
        assert refusal is not None
        assert (refusal.body.status, refusal.body.code) == (503, "no_rung_available")


async def test_a_request_that_the_upstream_does_not_take_is_the_clients_affair(autojump_clock):
    async with stage(status(400)) as (service, _):
        refusal = (await service.ask("cloud-only", prompts=CHAT)).refusal
        assert refusal is not None
        assert (refusal.body.status, refusal.body.code) == (400, "upstream_rejected")


async def test_what_cannot_be_said_upstream_is_not_sent(autojump_clock):
    async with stage(upstream_says("a"), FINE) as (service, network):
        answer = await service.ask("cloud", prompts=CHAT, top_k=5, temperature=0.0)
        assert outcomes(answer)[0] == ("cloud", "refused", "not_expressible")
        answer = await service.ask("cloud")
        assert outcomes(answer)[0] == ("cloud", "refused", "not_expressible")
        assert network.asked == []


# --- faults after the first content ----------------------------------------------------------------------------------


async def _cut(asked: Asked) -> None:
    await asked.say("Hel", "lo")
    await trio.sleep(0.1)
    await asked.stream.aclose()


async def _clean_cut(asked: Asked) -> None:
    await asked.say("Hel", "lo", pause_s=0.1)
    await asked.send(b"0\r\n\r\n")


async def _late_error(asked: Asked) -> None:
    await asked.say("Hel", "lo", pause_s=0.1)
    await asked.chunk(event(error={"message": "no"}))
    await asked.chunk(b"data: [DONE]\n\n")


async def _late_garbage(asked: Asked) -> None:
    await asked.say("Hel", "lo", pause_s=0.1)
    await asked.chunk(b"data: {oops\n\n")


async def _broken_chunk(asked: Asked) -> None:
    await asked.say("Hel", "lo", pause_s=0.1)
    await asked.send(b"zzz\r\nnonsense")


LATE = [
    (_cut, "upstream_truncated"),
    (_clean_cut, "upstream_truncated"),
    (_late_error, "upstream_failed"),
    (_late_garbage, "upstream_garbled"),
    (_broken_chunk, "upstream_truncated"),
]


@pytest.mark.parametrize(("server", "kind"), LATE)
async def test_a_broken_stream_is_never_reported_as_an_end(autojump_clock, server, kind):
    async with stage(server) as (service, _):
        answer = await service.ask("cloud", prompts=CHAT)
        assert answer.text() == "Hello"
        assert isinstance(answer.end, Failed)
        assert answer.reasons() == []
        assert outcomes(answer) == [("cloud", "failed", kind)]
        assert answer.end.usage.completion_tokens == 2
        await service.assert_clean()
        row = service.row("r1")
        assert (row["outcome"], row["completion_tokens"]) == ("failed", 2)


@pytest.mark.parametrize(("server", "kind"), LATE)
async def test_what_nobody_has_seen_is_tried_elsewhere(autojump_clock, server, kind):
    async with stage(server, FINE) as (service, _):
        answer = await service.ask("cloud", prompts=CHAT, streamed=False)
        assert (answer.text(), answer.end.served.rung) == ("fine", "small")


async def test_silence_after_content(autojump_clock):
    async def stops(asked: Asked) -> None:
        await asked.say("Hel")
        await trio.sleep_forever()

    async with stage(stops) as (service, network):
        answer = await service.ask("cloud-only", prompts=CHAT)
        assert isinstance(answer.end, Failed)
        assert outcomes(answer) == [("cloud", "failed", "stall")]
        await wait_all_tasks_blocked()
        assert network.open == 0


async def test_one_choice_that_fails_takes_the_others_along(autojump_clock):
    async def third_fails(asked: Asked) -> None:
        if asked.body["seed"] == 2:
            await asked.status(500)
            return
        await asked.say("a", pause_s=1)
        await trio.sleep_forever()

    async with stage(third_fails, FINE) as (service, network):
        answer = await service.ask("cloud", prompts=CHAT, n=3, seed=0)
        assert [answer.text(index) for index in range(3)] == ["fine"] * 3
        await wait_all_tasks_blocked()
        assert network.open <= 1


# --- addresses, breaker, pauses -------------------------------------------------------------------------------------

TWO = config().replace('urls = ["http://a/v1"]', 'urls = ["http://a/v1", "http://b/v1"]')


async def test_an_address_that_cannot_be_reached_costs_no_request(autojump_clock):
    async with stage({"b": upstream_says("ok")}, text=TWO) as (service, network):
        for _ in range(6):
            assert outcomes(await service.ask("cloud", prompts=CHAT)) == [("cloud", "answered", "asked_for")]
        assert {each.host for each in network.asked} == {"b"}
        figures = service.service.statistics().upstreams["cloud"].replicas
        assert figures["http://a/v1"].failed_total == 1
        assert figures["http://b/v1"].started_total == 6


async def test_an_address_that_is_busy_is_left_alone(autojump_clock):
    async with stage({"a": status(429, "retry-after: 20"), "b": upstream_says("ok")}, text=TWO) as (service, network):
        for _ in range(4):
            assert (await service.ask("cloud", prompts=CHAT)).text() == "ok"
        assert [each.host for each in network.asked].count("a") == 1
        await trio.sleep(21)
        assert (await service.ask("cloud", prompts=CHAT)).text() == "ok"
        assert [each.host for each in network.asked].count("a") == 2


async def test_the_least_busy_address_is_next(autojump_clock):
    servers = {"a": upstream_says("x", pause_s=5), "b": upstream_says("x", pause_s=5)}
    async with stage(servers, text=TWO) as (service, network):
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(lambda: service.ask("cloud-only", prompts=CHAT))
        hosts = [each.host for each in network.asked]
        assert (hosts.count("a"), hosts.count("b")) == (2, 2)


async def test_a_pause_that_was_asked_for_is_reported(autojump_clock):
    async with stage(status(429, "retry-after: 20")) as (service, network):
        for waited in (0, 5):
            await trio.sleep(waited)
            refusal = (await service.ask("cloud-only", prompts=CHAT)).refusal
            assert refusal is not None
            assert refusal.body.retry_after_s == pytest.approx(20 - waited, abs=1)
        assert len(network.asked) == 1


async def test_a_pause_that_a_failing_upstream_asks_for_is_reported(autojump_clock):
    async with stage(status(503, "retry-after: 20")) as (service, _):
        refusal = (await service.ask("cloud-only", prompts=CHAT)).refusal
        assert refusal is not None
        assert (refusal.body.status, refusal.body.retry_after_s) == (503, 20)


async def test_errors_open_the_breaker(autojump_clock):
    async with stage(status(500), FINE) as (service, network):
        seen = [outcomes(await service.ask("cloud", prompts=CHAT))[0][2] for _ in range(12)]
        assert seen[:10] == ["upstream_error"] * 10
        assert seen[10:] == ["breaker_open"] * 2
        assert len(network.asked) == 10
        await trio.sleep(6)
        network.servers["a"] = upstream_says("well again")
        for _ in range(3):
            assert (await service.ask("cloud", prompts=CHAT)).text() == "well again"
            await wait_all_tasks_blocked()
        assert service.service.statistics().breakers["cloud"] == "closed"


async def test_a_retry_before_content(autojump_clock):
    calls = 0

    async def first_fails(asked: Asked) -> None:
        nonlocal calls
        calls += 1
        await (asked.status(500) if calls == 1 else upstream_says("ok")(asked))

    text = config().replace('to = "cloud"\nttft = "5s"', 'to = "cloud"\nretries = 1')
    async with stage(first_fails, text=text) as (service, _):
        answer = await service.ask("cloud", prompts=CHAT)
        assert outcomes(answer) == [("cloud", "failed", "upstream_error"), ("cloud", "answered", "upstream_error")]


# --- the key ----------------------------------------------------------------------------------------------------------


async def test_the_key_is_sent_and_not_printed(autojump_clock, monkeypatch, capsys):
    monkeypatch.setenv("CLOUD_KEY", "sk-very-secret")
    async with stage(status(401), extra='key = { env = "CLOUD_KEY" }\n') as (service, network):
        refusal = (await service.ask("cloud-only", prompts=CHAT)).refusal
        assert network.asked[0].headers["authorization"] == "Bearer sk-very-secret"
        assert "secret" not in str(refusal)
        assert "secret" not in repr(service.service._upstream_keys)
    assert "secret" not in "".join(capsys.readouterr())


async def test_a_key_in_a_header_of_its_own(autojump_clock, monkeypatch):
    monkeypatch.setenv("CLOUD_KEY", "sk-1")
    extra = 'key = { env = "CLOUD_KEY" }\nkey_header = "Api-Key"\nheaders = { x-team = "search" }\n'
    async with stage(upstream_says("a"), extra=extra) as (service, network):
        await service.ask("cloud", prompts=CHAT)
        headers = network.asked[0].headers
        assert (headers["api-key"], headers["x-team"], "authorization" in headers) == ("sk-1", "search", False)


# --- continuing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("low", range(7))
async def test_an_upstream_as_the_large_stage_goes_on_after_what_was_shown(autojump_clock, low):
    text = "naïve 東京 fox"

    async def goes_on(asked: Asked) -> None:
        last = asked.body["messages"][-1]
        shown = last["content"] if last["role"] == "assistant" else ""
        assert text.startswith(shown)
        assert asked.body.get("continue_final_message", False) is bool(shown)
        await asked.say(text[len(shown) :])
        await asked.end(completion=9)

    async with stage(goes_on, {"small": says(text, {low: 0.4}, prompt=HI)}, extra=SHARED) as (service, _):
        answer = await service.ask("cascade", prompts=CHAT)
        assert answer.text() == text
        if low <= len(byte_level_tokenizer().encode(text)):
            assert answer.end.served.rung == "cloud"
            assert answer.end.usage.completion_tokens == len(answer.tokens()) + 9


async def test_an_upstream_that_cannot_go_on_makes_the_cascade_wait(autojump_clock):
    async with stage(upstream_says("large"), {"small": says("unsure", {5: 0.4}, prompt=HI)}) as (service, network):
        answer = await service.ask("cascade", prompts=CHAT)
        assert answer.text() == "large"
        assert [each["role"] for each in network.asked[0].body["messages"]] == ["user"]


async def test_an_engine_goes_on_after_an_upstream(autojump_clock):
    text = "the quick brown fox jumps"
    async with stage(_cut_after("the quick"), {"small": says(text, prompt=HI)}, extra=SHARED) as (service, _):
        answer = await service.ask("begins-there", prompts=CHAT)
        assert answer.text() == text
        assert [each[:2] for each in outcomes(answer)] == [("cloud", "failed"), ("small", "answered")]
        assert answer.end.usage.completion_tokens == len(byte_level_tokenizer().encode(text)) + 1
        await service.assert_clean()
        assert service.row("r1")["completion_tokens"] == answer.end.usage.completion_tokens


async def test_without_a_shared_tokenizer_nobody_goes_on(autojump_clock):
    async with stage(_cut_after("the quick"), {"small": says("the quick brown")}) as (service, _):
        answer = await service.ask("begins-there", prompts=CHAT)
        assert isinstance(answer.end, Failed)
        assert answer.text() == "the quick"


def _cut_after(text: str) -> Server:
    async def serve(asked: Asked) -> None:
        await asked.say(*[text[start : start + 3] for start in range(0, len(text), 3)], pause_s=0.1)
        await asked.stream.aclose()

    return serve


# --- tools and forms --------------------------------------------------------------------------------------------------

ADD = Tool(
    "add", {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}, {"type": "object"}
)
WITH_TOOLS = (ChatPrompt(CHAT[0].messages, ToolSet((ADD,))),)


def calls_with(*arguments: str, reason: str = "tool_calls") -> Server:
    async def serve(asked: Asked) -> None:
        assert asked.body["tools"] == [ADD.definition]
        await asked.say("I add.")
        for piece in arguments:
            await trio.sleep(6)
            part = {
                "index": 0,
                "id": "x",
                "function": {"name": "add" if piece is arguments[0] else None, "arguments": piece},
            }
            await asked.chunk(event(choices=[{"index": 0, "delta": {"tool_calls": [part]}, "finish_reason": None}]))
        await asked.chunk(event(choices=[{"index": 0, "delta": {}, "finish_reason": reason}]))
        await asked.chunk(b"data: [DONE]\n\n")
        await asked.send(b"0\r\n\r\n")

    return serve


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("reason", ["tool_calls", "stop"])
async def test_a_tool_call_of_an_upstream(autojump_clock, streamed, reason):
    """Fragments arrive slowly: each counts as progress, and the call is shown only when it is complete."""
    async with stage(calls_with('{"a"', ": 1", "}", reason=reason)) as (service, _):
        answer = await service.ask("cloud-only", prompts=WITH_TOOLS, streamed=streamed)
        calls = [call for event in answer.events if isinstance(event, Delta) for call in event.calls]
        assert [(each.index, each.id, each.name, each.arguments) for each in calls] == [(0, "x", "add", '{"a": 1}')]
        assert (answer.text(), answer.reasons()) == ("I add.", ["tool_calls"])
        assert answer.end.usage.completion_tokens == 4


async def test_a_broken_tool_call_is_no_answer(autojump_clock):
    async with stage(calls_with('{"a"', ": ]}")) as (service, _):
        answer = await service.ask("cloud-only", prompts=WITH_TOOLS)
        assert isinstance(answer.end, Failed)
        assert answer.reasons() == []


async def test_a_schema_is_passed_on(autojump_clock):
    grammar = Grammar("json_schema", '{"type":"object"}')
    async with stage(upstream_says('{"a":', "1}")) as (service, network):
        request = service.request("cloud-only", prompts=CHAT, grammar=grammar)
        answer = await service.read(await service.service.open(request))
        assert answer.text() == '{"a":1}'
        assert network.asked[0].body["response_format"] == {"type": "json_object"}


async def test_reasoning_is_progress(autojump_clock):
    async def thinks(asked: Asked) -> None:
        await asked.say()
        for _ in range(5):
            await trio.sleep(4)
            await asked.chunk(event(choices=[{"index": 0, "delta": {"reasoning_content": "hm"}}]))
        await asked.say("42", head=False)
        await asked.end(completion=6)

    async with stage(thinks) as (service, _):
        answer = await service.ask("cloud-only", prompts=CHAT)
        assert answer.text() == "42"
        assert answer.end.usage.completion_tokens == 6


# --- the actor's lifecycle --------------------------------------------------------------------------------------------


async def test_an_actor_that_dies_is_started_again(autojump_clock):
    async with stage(upstream_says("a", pause_s=5), FINE) as (service, network):
        answers: list[Answer] = []

        async def ask() -> None:
            answers.append(await service.ask("cloud", prompts=CHAT))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(1)
            service.service._backend_queues["cloud"].slots[0].mailbox.put_unbounded(StartJob(None, 1))
            await wait_all_tasks_blocked()
            assert network.open == 0
        assert outcomes(answers[0]) == [
            ("cloud", "failed", "upstream_stopped"),
            ("small", "answered", "upstream_stopped"),
        ]
        await trio.sleep(2)
        assert (await service.ask("cloud", prompts=CHAT)).text() == "a"
        assert service.service.statistics().engine_restarts_total["cloud"] == 1


async def test_a_service_without_engines(autojump_clock):
    text = (
        'schema = 1\n[ledger]\npath = ":memory:"\n[upstreams.cloud]\nurls = ["http://a/v1"]\n[models.any]\n'
        '[[routes]]\nname = "all"\nuse = { ladder = "cloud" }\n[[ladders.cloud]]\nto = "cloud"\n'
    )
    async with stage(upstream_says("hello"), text=text) as (service, network):
        answer = await service.ask("any", prompts=CHAT)
        assert answer.text() == "hello"
        body = network.asked[0].body
        assert (body["model"], "max_tokens" in body, "max_completion_tokens" in body) == ("any", False, False)
