"""What was done less than asked for is told by each way in which an answer goes out."""

from msgspec.structs import replace

from actors.api.response import Done, Start
from tests.gateway.endpoints.test_ws_session import START, connected
from tests.gateway.fakes import SERVED, USAGE, FakeService, words
from tests.gateway.harness import CHAT, STREAM, events, gateway

WORDS = ("budget_downgraded", "fallback")
SERVICE_SAYS = [
    [Start("tests", "small", 5, mark="spare", degraded=WORDS[:1], tier="slow")],
    words("Hello"),
    [Done(USAGE, replace(SERVED, why="budget", mark="spare", degraded=WORDS, tier="slow"))],
]


async def test_in_the_head_and_in_the_body_whole_and_streamed() -> None:
    async with gateway(FakeService(lambda _: SERVICE_SAYS)) as running:
        client = await running.connect()
        whole = await client.request("/v1/chat/completions", CHAT)
        assert whole.headers["x-penstock-degraded"] == "budget_downgraded, fallback"
        assert whole.headers["x-penstock-why"] == "budget"
        stream = await client.request("/v1/chat/completions", STREAM)
        # As much as was known with the first content; the last chunk has the rest.
        assert stream.headers["x-penstock-degraded"] == "budget_downgraded"
        for response in (whole, stream):
            assert (response.headers["x-penstock-tier"], response.headers["x-penstock-mark"]) == ("slow", "spare")
        for told in (whole.json["penstock"], events(stream.body)[-2]["penstock"]):
            assert (told["why"], told["degraded"], told["tier"], told["mark"]) == (
                "budget",
                list(WORDS),
                "slow",
                "spare",
            )


async def test_over_a_socket() -> None:
    async with gateway(FakeService(lambda _: SERVICE_SAYS)) as running, connected(running) as socket:
        await socket.send({**START, "id": "a"})
        started = await socket.get()
        assert (started["degraded"], started["tier"], started["mark"]) == (["budget_downgraded"], "slow", "spare")
        assert (await socket.until("done"))[-1]["penstock"]["degraded"] == list(WORDS)


async def test_nothing_is_said_where_nothing_is_less() -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        for body in (CHAT, STREAM):
            headers = (await client.request("/v1/chat/completions", body)).headers
            assert not {"x-penstock-degraded", "x-penstock-tier", "x-penstock-mark"} & headers.keys()
