"""The client against a real socket: every way in which a server can be wrong has its name."""

import socket
import struct
import time

import msgspec
import pytest
import trio

from config.model.table import Bytes, Seconds
from loadtests.client import failures
from loadtests.model.lengths import Lengths
from loadtests.model.run_record import RequestRow
from loadtests.model.scenario import Arrivals, Behaviour, LoadTarget, RequestKind, Scenario
from loadtests.running.tally import WorkerTally
from loadtests.running.verdict import totals_of
from loadtests.running.worker import Worker, WorkerShare
from loadtests.running.worker_messages import WorkerDone, decode_from_worker
from tests.loadtests.scripted_server import FINISH, Conversation, Script, chunk, event, events, said, serving, usage
from tests.patience import PATIENCE_S

DONE = "[DONE]"
PLAIN = Behaviour()


def ignore(progress: object) -> None:
    pass


async def run_one(
    script: Script, behaviour: Behaviour = PLAIN, *, transport="sse", requests=1, **target
) -> tuple[WorkerTally, list[Conversation]]:
    """One request of a client that behaves so."""
    async with serving(script) as server:
        scenario = Scenario(
            schema=1,
            duration=Seconds(0.01 * requests),
            warm_up=Seconds(0),
            drain=Seconds(target.pop("drain", 60)),
            target=LoadTarget(url=server.url, model="m", **target),
            arrivals=Arrivals(kind="constant", rate=100),
            mix=(RequestKind(behaviour="b", transport=transport, output=Lengths(exactly=9)),),
            behaviours={"b": behaviour},
        )
        tally = await Worker(WorkerShare(scenario, {"": "k"}), ignore).run(time.perf_counter())
        return tally, server.asked


def streamed(what: list[object], *, end: bool = True) -> Script:
    async def script(conversation: Conversation) -> None:
        await conversation.stream_events(what, end=end)
        if not end:
            await conversation.stream.aclose()

    return script


async def garbage(conversation: Conversation) -> None:
    await conversation.send(b"220 smtp.example ESMTP\r\n")


async def reset(conversation: Conversation) -> None:
    await conversation.begin()
    await conversation.send(chunk(event(said("a"))))
    conversation.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await conversation.stream.aclose()


async def hang_up(conversation: Conversation) -> None:
    await conversation.stream.aclose()


async def html(conversation: Conversation) -> None:
    await conversation.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi")


async def bad_request(conversation: Conversation) -> None:
    await conversation.answer({"error": {"message": "no", "code": "bad"}}, "400 Bad Request")


async def busy(conversation: Conversation) -> None:
    await conversation.answer({"error": {"message": "full", "code": "queue_full"}}, "429 Too Many Requests")


def numbered(numbers: list[int]) -> Script:
    async def script(conversation: Conversation) -> None:
        await conversation.begin()
        for number in numbers:
            await conversation.send(chunk(event(said("a"), number)))
        await conversation.send(
            chunk(event(FINISH, numbers[-1] + 1)) + chunk(event(DONE, numbers[-1] + 2)) + b"0\r\n\r\n"
        )

    return script


async def cut_event(conversation: Conversation) -> None:
    await conversation.begin()
    await conversation.send(chunk(event(said("a"))) + chunk(b'data: {"id"') + b"0\r\n\r\n")


WRONG: list[tuple[str, Script]] = [
    (failures.TRUNCATED, streamed(events()[:2], end=False)),
    (failures.TRUNCATED, cut_event),
    (failures.TRUNCATED, reset),
    (failures.CONNECTION_LOST, hang_up),
    (failures.NO_FINISH_REASON, streamed([said("a"), DONE])),
    (failures.NO_FINISH_REASON, streamed([])),
    (failures.NO_DONE, streamed([said("a"), FINISH, usage(1)])),
    (failures.EARLY_DONE, streamed([said("a"), FINISH, DONE, said("b")])),
    (failures.EARLY_DONE, streamed([said("a"), DONE, FINISH])),
    (failures.EARLY_DONE, streamed([said("a"), FINISH, said("b"), DONE])),
    (failures.EARLY_DONE, streamed([said("a"), FINISH, DONE, DONE])),
    (failures.DOUBLED_EVENT, numbered([1, 2, 2, 3])),
    (failures.MISSING_EVENT, numbered([1, 2, 4])),
    (failures.USAGE_MISMATCH, streamed([said("a"), said("b"), FINISH, usage(1), DONE])),
    (failures.USAGE_MISMATCH, streamed([said("a"), FINISH, usage(10), DONE])),
    (failures.ERROR_EVENT, streamed([said("a"), {"error": {"message": "engine failed", "code": "engine_failed"}}])),
    (failures.SHED, streamed([{"error": {"message": "full", "code": 503}}])),
    (failures.GARBLED, streamed([said("a"), "{not json"])),
    (failures.GARBLED, garbage),
    (failures.WRONG_TYPE, html),
    (failures.REFUSED, bad_request),
    (failures.SHED, busy),
]


@pytest.mark.parametrize(("name", "script"), WRONG, ids=[f"{name}-{place}" for place, (name, _) in enumerate(WRONG)])
async def test_each_wrong_server_is_named(name: str, script: Script) -> None:
    tally, _ = await run_one(script)
    (row,) = tally.rows
    assert row.outcome == name
    assert [each.name for each in tally.failures] == [name]
    assert sum(measures.ok for _, measures in tally.groups) == 0


MANY = 9 * int("1" * 400)
NESTED = "[" * 100_000 + "]" * 100_000
ODD: list[tuple[str, object]] = [
    *[
        (failures.GARBLED, {"choices": [], "usage": {"completion_tokens": 1, **counts}})
        for counts in (
            {"cost": MANY},
            {"cost": 1e300},
            {"prompt_tokens": 10**25},
            {"prompt_tokens": 10**15},
            {"prompt_tokens": -1},
            {"completion_tokens": -1},
            {"total_tokens": MANY},
        )
    ],
    (failures.GARBLED, {"choices": [], "timings": {"predicted_ms": MANY}}),
    (failures.GARBLED, {"choices": [], "timings": {"predicted_ms": 1e300}}),
    (failures.GARBLED, {"choices": [], "penstock": {"timings": {"queue_ms": MANY}}}),
    (failures.GARBLED, {"choices": [{"index": MANY, "delta": {"content": "a"}}]}),
    (failures.GARBLED, '{"usage": {"cost": 1%s}}' % ("0" * 5000)),
    (failures.GARBLED, f'{{"usage": {{"prompt_tokens_details": {NESTED}}}}}'),
    (failures.GARBLED, '{"timings": {"x_ms": 1%s}}' % ("0" * 5000)),
    (failures.GARBLED, f'{{"choices": {NESTED}}}'),
    (failures.ERROR_EVENT, {"error": {"message": MANY, "code": MANY, "status": MANY}}),
    (failures.ERROR_EVENT, '{"error": {"code": 1%s}}' % ("0" * 5000)),
]


@pytest.mark.parametrize(("name", "odd"), ODD, ids=[f"{name}-{place}" for place, (name, _) in enumerate(ODD)])
async def test_nothing_that_an_answer_says_takes_those_of_others(name: str, odd: object) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.stream_events([said("a"), odd, FINISH, DONE] if conversation.number == 2 else events(1))

    tally, _ = await run_one(script, requests=3)
    assert sorted(row.outcome for row in tally.rows) == sorted([name, "ok", "ok"])
    assert not tally.faults
    decode_from_worker(msgspec.msgpack.encode(WorkerDone(tally)))


async def test_a_fault_of_the_reader_is_of_one_answer_and_is_said(monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("odd")

    monkeypatch.setattr("loadtests.client.answer.Answer.chunk", fail)
    tally, _ = await run_one(streamed(events()), requests=2)
    assert [row.outcome for row in tally.rows] == [failures.GARBLED] * 2
    assert tally.faults == ["the load tester could not read an answer: ZeroDivisionError('odd')"]


def of(index: int, text: str = "", finish: str | None = None) -> dict[str, object]:
    return {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": finish}]}


BOTH = [of(0, "a"), of(2, "b"), of(0, "c"), of(2, "d")]
EMPTY_REASON = [of(0, "a", ""), of(0, "b", ""), of(0, "", "stop")]
CHOICES: list[tuple[str, list[object]]] = [
    ("ok", [*BOTH, of(0, "", "stop"), of(2, "e"), of(2, "f"), of(2, "", "stop"), usage(18), DONE]),
    (failures.USAGE_MISMATCH, [*BOTH, of(0, "", "stop"), of(2, "", "stop"), usage(19), DONE]),
    (failures.NO_FINISH_REASON, [*BOTH, of(0, "", "stop"), of(2, "e"), DONE]),
    (failures.EARLY_DONE, [*BOTH, of(0, "", "stop"), of(2, "e"), of(0, "f"), of(2, "", "stop"), DONE]),
    ("ok", [*EMPTY_REASON, usage(2), DONE]),
    (failures.NO_FINISH_REASON, [*EMPTY_REASON[:2], DONE]),
    ("ok", [said("a"), {"choices": None}, FINISH, {"choices": None, "usage": usage(1)["usage"]}, DONE]),
]


@pytest.mark.parametrize(("name", "what"), CHOICES, ids=[str(place) for place in range(len(CHOICES))])
async def test_each_choice_ends_by_itself(name: str, what: list[object]) -> None:
    assert (await run_one(streamed(what)))[0].rows[0].outcome == name


def with_head(head: str, body: bytes = b"") -> Script:
    async def script(conversation: Conversation) -> None:
        await conversation.send(f"HTTP/1.1 {head}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)

    return script


JSON = "200 OK\r\ncontent-type: application/json"


@pytest.mark.parametrize("transport", ["sse", "whole"])
@pytest.mark.parametrize(
    ("script", "name", "words"),
    [
        (with_head("307 Temporary Redirect\r\nlocation: http://b/v1"), failures.REFUSED, "a redirect to http://b/v1"),
        (with_head("301 Moved\r\ncontent-type: text/html", b"<p>"), failures.REFUSED, "a redirect to nowhere"),
        (with_head("204 No Content"), failures.REFUSED, "no answer"),
        (with_head(JSON, b'{"error":{"message":"no such model"}}'), failures.ERROR_EVENT, "no such model"),
        (with_head(JSON, b'{"error":{"message":"full","code":503}}'), failures.SHED, "full"),
    ],
)
async def test_what_the_server_says_in_place_of_an_answer_is_kept(
    script: Script, name: str, words: str, transport
) -> None:
    tally, _ = await run_one(script, transport=transport)
    assert [(each.name, words in each.example) for each in tally.failures] == [(name, True)], tally.failures


async def test_json_in_place_of_a_stream_is_no_answer() -> None:
    tally, _ = await run_one(with_head(JSON, b'{"choices":[]}'))
    assert tally.failures[0].name == failures.WRONG_TYPE


async def test_a_whole_stream_is_a_success() -> None:
    tally, asked = await run_one(streamed(events(3)))
    (row,) = tally.rows
    assert (row.outcome, row.output_tokens, row.prompt_tokens) == ("ok", 3, 7)
    assert asked[0].headers["authorization"] == "Bearer k"
    assert asked[0].body["stream_options"] == {"include_usage": True}
    assert row.first_s is not None
    assert row.intended_s <= row.sent_s <= row.first_s <= row.end_s


async def test_fewer_events_than_tokens_are_only_wrong_where_each_is_one() -> None:
    script = streamed([said("ab"), FINISH, usage(2), DONE])
    assert (await run_one(script))[0].rows[0].outcome == "ok"
    assert (await run_one(script, one_token_events=True))[0].rows[0].outcome == failures.USAGE_MISMATCH


async def silent(conversation: Conversation) -> None:
    await conversation.begin()
    while True:  # comments keep the connection alive, and are no events
        await conversation.send(chunk(b": ping\n\n"))
        await trio.sleep(0.02)


async def test_keep_alives_alone_are_a_stall() -> None:
    tally, _ = await run_one(silent, silence=Seconds(0.3))
    assert tally.rows[0].outcome == failures.STALLED


async def test_what_the_run_does_not_wait_for_is_unfinished() -> None:
    tally, _ = await run_one(silent, drain=0.2)
    assert tally.rows[0].outcome == failures.UNFINISHED


async def test_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    scenario = Scenario(
        schema=1,
        duration=Seconds(0.01),
        target=LoadTarget(url=f"http://127.0.0.1:{port}"),
        arrivals=Arrivals(kind="constant", rate=100),
    )
    tally = await Worker(WorkerShare(scenario, {}), ignore).run(time.perf_counter())
    assert tally.rows[0].outcome == failures.CONNECT_FAILED


async def test_retries_are_those_of_the_official_clients() -> None:
    async def script(conversation: Conversation) -> None:
        if conversation.number < 3:
            more = "retry-after-ms: 20\r\n"
            await conversation.answer({"error": {"message": "full"}}, "429 Too Many Requests", more)
        else:
            await conversation.stream_events(events())

    tally, asked = await run_one(script, Behaviour(retries=2))
    assert (tally.rows[0].outcome, tally.rows[0].attempts, len(asked)) == ("ok", 3, 3)
    tally, asked = await run_one(script, Behaviour(retries=1))
    assert (tally.rows[0].outcome, len(asked)) == (failures.SHED, 2)


async def test_a_server_may_forbid_retries() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.answer({"error": {}}, "503 Service Unavailable", "x-should-retry: false\r\n")

    _, asked = await run_one(script, Behaviour(retries=2))
    assert len(asked) == 1


def endless(gone: trio.Event) -> Script:
    async def script(conversation: Conversation) -> None:
        await conversation.begin()
        try:
            while True:
                await conversation.send(chunk(event(said("a"))))
                await trio.sleep(0.005)
        except trio.BrokenResourceError:
            gone.set()

    return script


@pytest.mark.parametrize("behaviour", [Behaviour(leave_after_tokens=3), Behaviour(leave_after=Seconds(0.1))])
async def test_a_client_that_leaves_closes_its_connection(behaviour: Behaviour) -> None:
    gone = trio.Event()
    async with serving(endless(gone)) as server:
        scenario = Scenario(
            schema=1,
            duration=Seconds(0.01),
            warm_up=Seconds(0),
            target=LoadTarget(url=server.url),
            arrivals=Arrivals(kind="constant", rate=100),
            mix=(RequestKind(behaviour="b"),),
            behaviours={"b": behaviour},
        )
        tally = await Worker(WorkerShare(scenario, {}), ignore).run(time.perf_counter())
        assert tally.rows[0].outcome == failures.LEFT
        await gone.wait()
    assert tally.failures == []


async def test_a_half_open_client_reads_no_further_and_does_not_close() -> None:
    tally, _ = await run_one(endless(trio.Event()), Behaviour(half_open_after_tokens=2), drain=0.3)
    assert tally.rows[0].outcome == failures.LEFT
    assert tally.rows[0].end_s >= 0.3


async def test_a_slow_reader_takes_its_time() -> None:
    tally, _ = await run_one(streamed(events(9)), Behaviour(read_rate=Bytes(4000)))
    row = tally.rows[0]
    assert row.outcome == "ok"
    assert row.end_s - row.sent_s > 0.1  # more than 800 bytes


async def test_a_lost_connection_is_read_on() -> None:
    async def script(conversation: Conversation) -> None:
        after = int(conversation.headers.get("last-event-id", 0))
        if not after:
            assert conversation.headers["x-penstock-resumable"] == "true"
        await conversation.begin(b"x-penstock-stream: s1\r\n")
        for number, each in enumerate(events(5), start=1):
            if number > after:
                await conversation.send(chunk(event(each, number)))
                await trio.sleep(0.01)
        await conversation.send(b"0\r\n\r\n")

    tally, asked = await run_one(script, Behaviour(reconnect_after_tokens=2))
    assert (tally.rows[0].outcome, tally.rows[0].output_tokens) == ("ok", 5)
    assert asked[1].target == "/v1/streams/s1"
    assert sum(measures.resumed for _, measures in tally.groups) == 1


async def test_a_stream_that_was_not_kept_is_not_resumed() -> None:
    tally, _ = await run_one(streamed(events(5)), Behaviour(reconnect_after_tokens=1))
    assert tally.rows[0].outcome == failures.NOT_RESUMED


async def test_a_whole_answer() -> None:
    async def script(conversation: Conversation) -> None:
        assert "stream" not in conversation.body
        choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
        await conversation.answer({"choices": [choice], "usage": usage(1)["usage"]}, more="x-penstock-rung: small\r\n")

    tally, _ = await run_one(script, transport="whole")
    row: RequestRow = tally.rows[0]
    assert (row.outcome, row.output_tokens, row.rung, row.tpot_s) == ("ok", 1, "small", None)


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("endpoint", ["chat", "completions"])
async def test_the_bound_on_the_output_has_the_name_that_the_server_wants(field, endpoint) -> None:
    async with serving(streamed(events())) as server:
        scenario = Scenario(
            schema=1,
            duration=Seconds(0.01),
            warm_up=Seconds(0),
            target=LoadTarget(url=server.url, max_tokens_field=field),
            arrivals=Arrivals(kind="constant", rate=100),
            mix=(RequestKind(endpoint=endpoint, output=Lengths(exactly=9)),),
        )
        await Worker(WorkerShare(scenario, {}), ignore).run(time.perf_counter())
    (asked,) = server.asked
    bounds = {name: value for name, value in asked.body.items() if name.startswith("max_")}
    assert bounds == {field if endpoint == "chat" else "max_tokens": 9}


async def test_connections_are_used_again() -> None:
    async with serving(streamed(events())) as server:
        scenario = Scenario(
            schema=1,
            duration=Seconds(1),
            target=LoadTarget(url=server.url),
            arrivals=Arrivals(kind="closed", clients=1),
        )
        tally = await Worker(WorkerShare(scenario, {}), ignore).run(time.perf_counter())
        assert tally.requests > 1
        assert server.connections == 2  # one of them asked whether the server is there


async def test_connections_are_opened_before_the_run() -> None:
    async with serving(streamed(events())) as server:
        scenario = Scenario(
            schema=1,
            duration=Seconds(0.5),
            warm_up=Seconds(0),
            target=LoadTarget(url=server.url, connections=40),
            arrivals=Arrivals(kind="constant", rate=20),
        )
        worker = Worker(WorkerShare(scenario, {}), ignore)
        await worker.open_connections()
        opened = 41  # one of them asked whether the server is there
        with trio.fail_after(PATIENCE_S):
            while server.connections < opened:
                await trio.lowlevel.checkpoint()
        assert server.asked == []
        tally = await worker.run(time.perf_counter())
        assert server.connections == opened
    measures = totals_of(tally.groups)
    assert (measures.ok, measures.latencies.connect.count) == (10, 0)


async def test_a_server_that_is_not_there_is_found_by_the_run() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    scenario = Scenario(
        schema=1,
        duration=Seconds(0.2),
        warm_up=Seconds(0),
        target=LoadTarget(url=f"http://127.0.0.1:{port}", connections=3),
        arrivals=Arrivals(kind="constant", rate=20),
    )
    worker = Worker(WorkerShare(scenario, {}), ignore)
    await worker.open_connections()
    tally = await worker.run(time.perf_counter())
    assert [each.name for each in tally.failures] == [failures.CONNECT_FAILED]
