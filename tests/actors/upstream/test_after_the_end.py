"""After its finish reason an answer is complete, and soon: whatever follows, nothing is asked or sent a second time."""

import pytest
import trio

from actors.api.response import Done
from tests.actors.upstream.network import Asked, event
from tests.actors.upstream.test_upstream_actor import CHAT, config, outcomes, stage

IMPATIENT = 'deadlines = { ttft = "10s", stall = "2s", total = "120s" }'
TEXT = config('supports = ["continue"]\n').replace(
    'deadlines = { ttft = "10s", stall = "10s", total = "120s" }', IMPATIENT
)
FINISH = {"index": 0, "delta": {}, "finish_reason": "stop"}


async def nothing(asked: Asked) -> None:
    await trio.sleep_forever()


async def keep_alives(asked: Asked) -> None:
    while True:
        await asked.send(b"d\r\n: keep-alive\n\r\n")
        await trio.sleep(0.3)


async def the_usage_and_keep_alives(asked: Asked) -> None:
    await asked.chunk(event(choices=[], usage={"prompt_tokens": 11, "completion_tokens": 2}))
    await keep_alives(asked)


async def an_error(asked: Asked) -> None:
    await asked.chunk(event(error={"message": "boom", "code": 500}))
    await trio.sleep_forever()


async def no_chunk(asked: Asked) -> None:
    await asked.send(b"this is no chunk\r\n")
    await trio.sleep_forever()


async def the_end_of_the_connection(asked: Asked) -> None:
    await asked.stream.aclose()


FOLLOWING = [nothing, keep_alives, the_usage_and_keep_alives, an_error, no_chunk, the_end_of_the_connection]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("following", FOLLOWING)
async def test_the_answer_is_complete(autojump_clock, following, streamed):
    async def serve(asked: Asked) -> None:
        await asked.say("Hel", "lo")
        await asked.chunk(event(choices=[FINISH]))
        await following(asked)

    async with stage(serve, text=TEXT) as (service, network):
        began = trio.current_time()
        answer = await service.ask("cloud-only", prompts=CHAT, streamed=streamed)
        assert (answer.text(), answer.reasons(), len(network.asked)) == ("Hello", ["stop"], 1)
        assert isinstance(answer.end, Done)
        assert answer.end.usage.completion_tokens == 2
        assert outcomes(answer)[0][:2] == ("cloud", "answered")
        assert trio.current_time() - began < 1


async def test_a_finish_reason_in_each_event_ends_nothing(autojump_clock):
    async def serve(asked: Asked) -> None:
        await asked.say()
        for _ in range(30):
            await asked.chunk(event(choices=[{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]))
            await trio.sleep(0.4)
        await asked.end(completion=30)

    async with stage(serve, text=TEXT) as (service, _):
        assert (await service.ask("cloud-only", prompts=CHAT)).text() == "a" * 30
