"""Errors reported when several rungs fail, retries and their times, and what no client may read."""

import email.utils
import json
from itertools import pairwise

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.api.request import ChatMessage, ChatPrompt, TextPrompt
from actors.api.response import Failed
from tests.actors.upstream.network import Asked, Server, event
from tests.actors.upstream.network import says as upstream_says
from tests.actors.upstream.test_upstream_actor import CHAT, FINE, config, outcomes, stage, status

BAD = b'{"error": {"code": 400, "type": "BadRequestError", "message": "top_k must be -1", "param": "top_k"}}'
FILTERED = b'{"error": {"code": "content_filter", "message": "Filtered.", "param": "prompt"}}'
LONG = b'{"error": {"code": "context_length_exceeded", "message": "Too long."}}'
SPENT = b'{"error": {"code": "insufficient_quota", "message": "Pay."}}'
TWO = """
schema = 1
[ledger]
path = ":memory:"
[retry_budget]
at_least = 100
[upstreams.cloud]
urls = ["http://a/v1"]
[upstreams.second]
urls = ["http://b/v1"]
[models.any]
[[routes]]
name = "all"
use = { ladder = "both" }
[[ladders.both]]
to = "cloud"
retries = 1
[[ladders.both]]
to = "second"
"""
STATIC = TWO + '[[ladders.both]]\nanswer = "All are busy."\n'
ROUTE = 'use = { ladder = "both" }\n'
NEXT = f'{ROUTE}on_content_filter = "next"\n'


def in_a_stream(body: bytes, *, after: str = "") -> Server:
    async def serve(asked: Asked) -> None:
        await asked.say(*([after] if after else []))
        await asked.chunk(b"data: %b\n\n" % body)
        await asked.send(b"0\r\n\r\n")

    return serve


VERDICTS = [
    # Behaviour of the first rung and of the second one, and the reported error.
    (None, status(400, body=BAD), 400, "upstream_rejected", "top_k must be -1", False, None),
    (None, in_a_stream(BAD), 400, "upstream_rejected", "top_k must be -1", False, None),
    (status(500), status(400, body=BAD), 400, "upstream_rejected", "top_k must be -1", False, None),
    (status(400, body=BAD), status(500), 400, "upstream_rejected", "top_k must be -1", False, None),
    (status(400, body=BAD), None, 400, "upstream_rejected", "top_k must be -1", False, None),
    (status(429), status(400, body=BAD), 400, "upstream_rejected", "top_k must be -1", False, None),
    (status(401), status(400, body=BAD), 400, "upstream_rejected", "top_k must be -1", False, None),
    (status(500), status(400, body=FILTERED), 400, "content_filter", "Filtered.", False, None),
    (status(400, body=LONG), status(400, body=LONG), 400, "context_length_exceeded", "Too long.", False, None),
    (status(400, body=LONG), status(429, "retry-after: 4"), 429, "upstream_busy", "", True, 4),
    (status(400, body=LONG), None, 503, "no_rung_available", "", True, None),
    (status(429, "retry-after: 9"), status(429, "retry-after: 4"), 429, "upstream_busy", "", True, 4),
    (status(429, "retry-after: 4"), status(529, "retry-after: 9"), 429, "upstream_busy", "", True, 4),
    (status(429, "retry-after: 4"), None, 429, "upstream_busy", "", True, 4),
    (status(429, "retry-after: 4"), status(401), 429, "upstream_busy", "", True, 4),
    (status(429, "retry-after: 300"), status(429, "retry-after: 400"), 429, "upstream_busy", "", False, 300),
    (status(401), status(404), 503, "no_rung_available", "tell the operator", False, None),
    (status(429, body=SPENT), status(401), 503, "no_rung_available", "tell the operator", False, None),
    (status(401), status(503, "retry-after: 7"), 503, "no_rung_available", "try again later", True, 7),
    (status(401), None, 503, "no_rung_available", "try again later", True, None),
]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("case", VERDICTS)
async def test_one_verdict_over_the_whole_ladder(autojump_clock, case, streamed):
    first, second, code, name, words, again, wait_s = case
    servers = {host: server for host, server in (("a", first), ("b", second)) if server is not None}
    async with stage(servers, text=TWO) as (service, _):
        refusal = (await service.ask("any", prompts=CHAT, streamed=streamed)).refusal
        assert refusal is not None
        body = refusal.body
        assert (body.status, body.code, body.should_retry) == (code, name, again)
        assert words in body.message
        assert body.retry_after_s == (None if wait_s is None else pytest.approx(wait_s, abs=1.0))


async def test_the_servers_own_code_words_and_parameter_reach_the_client(autojump_clock):
    async with stage({"b": status(400, body=BAD)}, text=TWO) as (service, _):
        body = (await service.ask("any", prompts=CHAT)).refusal.body
        assert (body.upstream_code, body.param) == ("BadRequestError", "top_k")
        record = service.service.admin.decision("r1")
        assert [attempt.said for attempt in record.attempts][-1] == "BadRequestError: top_k must be -1"
        assert record.code == "upstream_rejected"


async def test_a_bad_request_is_asked_once_of_a_rung_and_gets_no_static_answer(autojump_clock):
    servers = {"a": status(400, body=BAD), "b": in_a_stream(BAD)}
    async with stage(servers, text=STATIC) as (service, network):
        refusal = (await service.ask("any", prompts=CHAT)).refusal
        assert refusal is not None
        assert refusal.body.status == 400
        assert [each.host for each in network.asked] == ["a", "b"]


@pytest.mark.parametrize("bad", [BAD, FILTERED, LONG])
@pytest.mark.parametrize("as_an_event", [True, False])
async def test_one_clients_bad_requests_are_nobody_elses_matter(autojump_clock, bad, as_an_event):
    async def serve(asked: Asked) -> None:
        if "bad" in json.dumps(asked.body):
            await (in_a_stream(bad) if as_an_event else status(400, body=bad))(asked)
        else:
            await upstream_says("well")(asked)

    async with stage(serve) as (service, network):
        mine = (ChatPrompt((ChatMessage("user", "something bad"),)),)
        for _ in range(14):
            assert (await service.ask("cloud-only", prompts=mine)).refusal.body.status == 400
        assert len(network.asked) == 14
        await wait_all_tasks_blocked()
        assert service.service.statistics().breakers["cloud"] == "closed"
        assert (await service.ask("cloud-only", prompts=CHAT)).text() == "well"


# --- content filters ------------------------------------------------------------------------------------------------

FILTERS = [
    status(400, body=FILTERED),
    in_a_stream(FILTERED),
    status(400, body=b'{"error": {"code": "content_policy_violation", "message": "No."}}'),
    status(403, body=b'{"error": {"code": 403, "message": "No.", "metadata": {"reasons": ["hate"]}}}'),
]


@pytest.mark.parametrize("server", FILTERS)
async def test_what_a_content_filter_refuses_is_not_routed_around(autojump_clock, server):
    async with stage({"a": server, "b": upstream_says("fine")}, text=STATIC) as (service, network):
        body = (await service.ask("any", prompts=CHAT)).refusal.body
        assert (body.status, body.code, body.should_retry) == (400, "content_filter", False)
        assert [each.host for each in network.asked] == ["a"]


@pytest.mark.parametrize("server", FILTERS)
async def test_a_policy_may_send_it_to_the_next_rung(autojump_clock, server):
    text = TWO.replace(ROUTE, NEXT)
    async with stage({"a": server, "b": upstream_says("fine")}, text=text) as (service, _):
        answer = await service.ask("any", prompts=CHAT)
        assert (answer.text(), outcomes(answer)[0]) == ("fine", ("cloud", "refused", "content_filter"))
    async with stage({"a": server, "b": status(500)}, text=text) as (service, _):
        assert (await service.ask("any", prompts=CHAT)).refusal.body.code == "content_filter"
    async with stage({"a": server, "b": server}, text=STATIC.replace(ROUTE, NEXT)) as (service, _):
        assert (await service.ask("any", prompts=CHAT)).text() == "All are busy."


# --- within an answer ------------------------------------------------------------------------------------------------

MIDDLE = [
    (BAD, 400, "upstream_rejected", "top_k must be -1", False),
    (FILTERED, 400, "content_filter", "Filtered.", False),
    (b'{"error": {"code": 429, "message": "Slow down."}}', 429, "upstream_busy", "Slow down.", True),
    (b'{"error": {"code": 500, "message": "Boom."}}', 503, "no_rung_available", "Boom.", True),
    (b'{"error": {"code": 401, "message": "Key."}}', 503, "no_rung_available", "tell the operator", False),
]


@pytest.mark.parametrize("case", MIDDLE)
async def test_after_content_it_is_reported_in_the_stream(autojump_clock, case):
    body, code, name, words, again = case
    replicas = config().replace('urls = ["http://a/v1"]', 'urls = ["http://a/v1", "http://b/v1"]')
    server = in_a_stream(body, after="Hello")
    async with stage({"a": server, "b": server}, text=replicas) as (service, network):
        answer = await service.ask("cloud-only", prompts=CHAT)
        assert answer.text() == "Hello"
        assert isinstance(answer.end, Failed)
        error = answer.end.error
        assert (error.status, error.code, error.should_retry) == (code, name, again)
        assert words in error.message
        assert error.message.endswith("The answer is incomplete.")
        assert len(network.asked) == 1


async def test_an_answer_goes_on_elsewhere_when_its_upstream_becomes_busy(autojump_clock):
    shared = 'tokenizer = "small"\nsupports = ["sampling", "continue"]\n'
    server = in_a_stream(b'{"error": {"code": 429, "message": "Slow down."}}', after="fi")
    async with stage(server, FINE, extra=shared) as (service, _):
        answer = await service.ask("begins-there", prompts=CHAT)
        assert answer.text() == "fine"
        assert [each[:2] for each in outcomes(answer)] == [("cloud", "refused"), ("small", "answered")]


# --- pauses ---------------------------------------------------------------------------------------------------------

SENT_AT = 1_700_000_000.0
AT = email.utils.formatdate(SENT_AT, usegmt=True)
IN_40_S = email.utils.formatdate(SENT_AT + 40, usegmt=True)


@pytest.mark.parametrize("code", [429, 503])
async def test_a_date_counts_from_the_answers_own_clock(autojump_clock, code):
    async with stage(status(code, f"Retry-After: {IN_40_S}", f"Date: {AT}")) as (service, network):
        for waited in (0, 30):
            await trio.sleep(waited)
            body = (await service.ask("cloud-only", prompts=CHAT)).refusal.body
            assert body.retry_after_s == pytest.approx(40 - waited, abs=1.0)
            assert body.should_retry
            assert body.status == code
        assert len(network.asked) == 1
        await wait_all_tasks_blocked()
        assert service.breaker("cloud").failed == (1 if code == 503 else 0)
        network.servers["a"] = upstream_says("well again")
        await trio.sleep(11)
        assert (await service.ask("cloud-only", prompts=CHAT)).text() == "well again"


WAITS = TWO.replace('to = "cloud"\n', 'to = "cloud"\nwait_out = "2s"\n')


def once(*headers: str, code: int = 429) -> Server:
    calls = 0

    async def serve(asked: Asked) -> None:
        nonlocal calls
        calls += 1
        await (status(code, *headers) if calls == 1 else upstream_says("first"))(asked)

    return serve


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize(("asked_for", "waited"), [("0.5", 0.5), ("2", 2.0), ("2.5", None), ("60", None)])
async def test_a_short_pause_is_waited_out_if_the_policy_says_so(autojump_clock, asked_for, waited, code):
    servers = {"a": once(f"retry-after: {asked_for}", code=code), "b": upstream_says("second")}
    async with stage(servers, text=WAITS) as (service, _):
        began = trio.current_time()
        answer = await service.ask("any", prompts=CHAT)
        if waited is None:
            assert answer.text() == "second"
            assert trio.current_time() - began < 0.1
        else:
            assert answer.text() == "first"
            assert waited <= trio.current_time() - began < waited + 0.5


async def test_a_pause_is_waited_out_once(autojump_clock):
    servers = {"a": status(429, "retry-after: 1"), "b": upstream_says("second")}
    async with stage(servers, text=WAITS) as (service, network):
        assert (await service.ask("any", prompts=CHAT)).text() == "second"
        assert [each.host for each in network.asked] == ["a", "a", "b"]


async def test_nobody_waits_for_what_comes_after_the_deadline(autojump_clock):
    text = WAITS.replace(ROUTE, ROUTE + 'deadlines = { ttft = "1s", total = "60s" }\n').replace('"2s"', '"900ms"')
    servers = {"a": once("retry-after-ms: 900"), "b": upstream_says("second", pause_s=0.01)}
    async with stage(servers, text=text) as (service, network):
        network.connect_s = 0.2
        assert (await service.ask("any", prompts=CHAT)).text() == "second"


async def test_retries_come_with_growing_pauses(autojump_clock):
    times: list[float] = []

    async def fails(asked: Asked) -> None:
        times.append(trio.current_time())
        await asked.status(500)

    text = TWO.replace("retries = 1", "retries = 4")
    async with stage({"a": fails, "b": upstream_says("second")}, text=text) as (service, _):
        assert (await service.ask("any", prompts=CHAT)).text() == "second"
    gaps = [later - sooner for sooner, later in pairwise(times)]
    assert len(gaps) == 4
    for number, gap in enumerate(gaps):
        assert 0.05 * 2**number <= gap <= 0.5 * 2**number + 0.1


async def test_the_service_can_end_an_answer_that_waits(autojump_clock):
    async with stage({"a": status(429, "retry-after: 2")}, text=WAITS) as (service, _):
        response = await service.open("any", prompts=CHAT)
        async with trio.open_nursery() as nursery:
            answers = []

            async def read() -> None:
                answers.append(await service.read(response))

            nursery.start_soon(read)
            await trio.sleep(0.5)
            began = trio.current_time()
            response.cut("shutting_down", "The server is going down.")
        assert answers[0].refusal.body.code == "shutting_down"
        assert trio.current_time() - began < 0.1


# --- what no client may read -----------------------------------------------------------------------------------------

ECHO = (
    "key=sk-very-secret-key auth=Bearer sk-very-secret-key team=blue-team-only at http://a.internal.example/v1/chat "
    "host a.internal.example:8080 peer 10.1.2.3:443 db.prod.internal [fd00::1]:80 "
    "\u0000\u001b[31mred\u202e other=sk-proj-abcdefgh123456 "
)
SECRETS = (
    "very-secret",
    "blue-team-only",
    "a.internal",
    "10.1.2.3",
    "prod.internal",
    "fd00",
    "\u001b",
    "\u202e",
    "\u0000",
    "sk-proj",
)
HIDDEN = TWO.replace(
    'urls = ["http://a/v1"]',
    'urls = ["http://a.internal.example/v1"]\nkey = { env = "CLOUD_KEY" }\nheaders = { x-team = "blue-team-only" }',
)
PLACES = [
    {"error": {"code": 400, "message": ECHO, "param": "sk-very-secret-key", "type": "sk-very-secret-key"}},
    {"error": ECHO, "error_type": "validation"},
    {"object": "error", "message": ECHO, "code": 400},
    {"detail": [{"loc": ["sk-very-secret-key"], "msg": ECHO}]},
    {"error": {"code": 429, "message": ECHO}},
    {"error": {"code": 500, "message": ECHO}},
    {"error": {"code": 401, "message": ECHO}},
    {"error": {"code": 400, "message": "x" * 100_000 + ECHO}},
    {"error": {"code": 400, "message": "x " * 1000 + ECHO}},
]


@pytest.mark.parametrize("code", [200, 400])
@pytest.mark.parametrize("body", PLACES)
async def test_nothing_of_ours_is_passed_on(autojump_clock, monkeypatch, capsys, body, code):
    monkeypatch.setenv("CLOUD_KEY", "sk-very-secret-key")
    data = json.dumps(body).encode()
    server = in_a_stream(data) if code == 200 else status(code, body=data)
    async with stage({"a.internal.example": server}, text=HIDDEN) as (service, _):
        refusal = (await service.ask("any", prompts=CHAT)).refusal
        record = service.service.admin.decision("r1")
        told = refusal.body.message + str(refusal.body.param) + str(refusal.body.upstream_code)
        noted = "".join(attempt.said for attempt in record.attempts)
        assert not [secret for secret in SECRETS if secret in told + noted]
        assert len(refusal.body.message) < 800
        assert len(noted) <= 2 * 600
    logged = "".join(capsys.readouterr())
    assert not [secret for secret in ("very-secret", "blue-team-only", "10.1.2.3", "sk-proj") if secret in logged]


QUOTED = "my private diary says that I met nobody at all on Tuesday"


@pytest.mark.parametrize("words", ["bad input: {} (string)", '{{"input": "{}"}} is no number', "{}", "a {} b {} c"])
@pytest.mark.parametrize("prompt", [ChatPrompt((ChatMessage("user", f"Read: {QUOTED}."),)), TextPrompt(QUOTED)])
async def test_a_log_and_a_record_repeat_nothing_of_a_prompt(autojump_clock, capsys, words, prompt):
    body = json.dumps({"error": {"message": words.format(QUOTED, QUOTED), "code": 400}}).encode()
    async with stage(status(400, body=body)) as (service, _):
        refusal = (await service.ask("cloud-only", prompts=(prompt,))).refusal
        assert QUOTED in refusal.body.message
        record = service.service.admin.decision("r1")
        noted = record.attempts[0].said
        assert "diary" not in noted
        assert "nobody" not in noted
    assert "diary" not in "".join(capsys.readouterr())


async def test_what_was_wrong_is_in_the_log(autojump_clock, capsys):
    async with stage(status(400, body=BAD)) as (service, _):
        await service.ask("cloud-only", prompts=CHAT)
    logged = "".join(capsys.readouterr())
    assert "top_k must be -1" in logged
    assert "BadRequestError" in logged


async def test_an_error_among_good_events_is_found_and_others_are_passed_over(autojump_clock):
    async def serve(asked: Asked) -> None:
        await asked.say("fi")
        for harmless in ({"type": "ping"}, {"error": None}, {"error": {}, "choices": []}, {"message": {}, "type": "x"}):
            await asked.chunk(event(**harmless))
        await asked.say("ne", head=False)
        await asked.end(completion=2)

    async with stage(serve) as (service, _):
        assert (await service.ask("cloud-only", prompts=CHAT)).text() == "fine"
