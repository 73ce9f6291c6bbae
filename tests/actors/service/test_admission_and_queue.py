"""Who may, how much, and in which order."""

import pytest
import trio

from policies.admission.keys import RANDOM_BYTES, new_key
from tests.actors.fakes import CONFIG, Answer, says, stage

ALICE = new_key("alice", bytes(range(RANDOM_BYTES)))
BOB = new_key("bob", bytes(range(1, RANDOM_BYTES + 1)))
KEYED = CONFIG + "".join(
    f"""
[[keys]]
id = "{key.settings.id}"
tenant = "{key.settings.tenant}"
hash = "{key.settings.hash}"
"""
    for key in (ALICE, BOB)
)
TENANTS = """
[tenants.alice]
{alice}
[tenants.bob]
"""


def keyed(alice: str = "") -> str:
    return KEYED + TENANTS.format(alice=alice)


@pytest.mark.parametrize("key", [None, "penstock_000000000000_nonsense", ALICE.raw[:-1]])
async def test_without_a_good_key_nothing_happens(autojump_clock, key):
    async with stage(settings=keyed()) as service:
        refusal = (await service.ask("small", api_key=key)).refusal
        assert (refusal.body.status, refusal.body.code) == (401, "invalid_api_key")
        assert refusal.body.should_retry is False


async def test_a_key_belongs_to_a_tenant(autojump_clock):
    async with stage({"small": says("ok")}, settings=keyed()) as service:
        assert (await service.ask("small", api_key=BOB.raw)).text() == "ok"
        await service.assert_clean()
        assert service.row("r1")["tenant"] == "bob"


async def test_over_the_quota_names_limit_scope_and_reset(autojump_clock):
    async with stage(settings=keyed("tokens = { per_minute = 100 }")) as service:
        assert (await service.ask("small", api_key=ALICE.raw, max_tokens=60, ignore_eos=True)).refusal is None
        body = (await service.ask("small", api_key=ALICE.raw, max_tokens=60)).refusal.body
        assert (body.status, body.code) == (429, "tokens_per_minute_exceeded")
        assert "tenant alice" in body.message
        assert "100 tokens per minute" in body.message
        assert 40 < body.retry_after_s <= 61
        assert body.should_retry
        assert (await service.ask("small", api_key=BOB.raw, max_tokens=60)).refusal is None
        await trio.sleep(61)
        assert (await service.ask("small", api_key=ALICE.raw, max_tokens=60)).refusal is None


async def test_what_was_not_used_is_given_back(autojump_clock):
    async with stage({"small": says("ok")}, settings=keyed("tokens = { per_minute = 100 }")) as service:
        for _ in range(4):
            assert (await service.ask("small", api_key=ALICE.raw, max_tokens=60)).refusal is None


async def test_a_refused_request_costs_nothing(autojump_clock):
    async with stage(settings=keyed("requests_per_minute = 2").replace("30s", "300s")) as service:
        service.worker("large").step_s = 100
        for _ in range(3):
            refusal = (await service.ask("large", api_key=ALICE.raw)).refusal
            assert refusal.body.code == "ttft_timeout", refusal.body
        service.worker("large").step_s = 0.1
        await trio.sleep(200)
        assert (await service.ask("small", api_key=ALICE.raw, max_tokens=3)).refusal is None


async def test_only_so_many_at_once(autojump_clock):
    async with stage(settings=keyed("concurrent = 1")) as service:
        first = await service.open("small", api_key=ALICE.raw, ignore_eos=True)
        body = (await service.ask("small", api_key=ALICE.raw)).refusal.body
        assert (body.code, body.should_retry) == ("concurrent_exceeded", True)
        first.close()
        assert (await service.ask("small", api_key=ALICE.raw, max_tokens=3)).refusal is None


async def test_a_full_queue_refuses_with_a_time(autojump_clock):
    async with stage() as service:
        answers: list[Answer] = []

        async def ask() -> None:
            answers.append(await service.ask("large", ignore_eos=True, max_tokens=40))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask)
            await trio.sleep(1)
            # Four run, one is ahead in the engine, eight wait, and seven were refused at once.
            queue = service.service.statistics().queues["large"]
            assert (queue.inside, queue.requests) == (5, 8)
            assert [answer.refusal.body.code for answer in answers] == ["queue_full"] * 7
            assert all(answer.refusal.body.status == 429 for answer in answers)
            assert all(answer.refusal.body.retry_after_s > 0 for answer in answers)
        assert sum(len(answer.tokens()) for answer in answers if answer.refusal is None) == 13 * 40
        assert service.service.statistics().queues["large"].refused_total == 7


async def test_what_is_larger_than_the_whole_queue_is_told_not_to_come_again(autojump_clock):
    async with stage(settings=CONFIG.replace("tokens = 400_000", "tokens = 40")) as service:
        body = (await service.ask("large", ignore_eos=True, max_tokens=60)).refusal.body
        assert (body.status, body.code, body.should_retry) == (400, "larger_than_queue", False)
        assert body.retry_after_s is None
        assert "at most 40. Shorten the prompt or lower max_tokens." in body.message
        assert (await service.ask("large", max_tokens=5)).refusal is None


async def test_what_waits_too_long_is_dropped_before_prefill(autojump_clock):
    async with stage(settings=CONFIG.replace('wait = "20s"', 'wait = "2s"')) as service:
        running = [await service.open("large", ignore_eos=True) for _ in range(5)]
        async with trio.open_nursery() as nursery:
            for response in running:
                nursery.start_soon(service.read, response)
            await trio.sleep(1)
            steps = service.runners["large"][0]
            before = trio.current_time()
            refusal = (await service.ask("large")).refusal
            assert 2 <= trio.current_time() - before < 2.2
            assert refusal.body.status == 503
            assert "queue_timeout" in refusal.body.message
            assert service.service.statistics().queues["large"].expired_total == 1
            assert steps.steps > 0


async def test_leaving_the_queue_is_immediate(autojump_clock):
    async with stage() as service:
        running = [await service.open("large", ignore_eos=True) for _ in range(5)]
        async with trio.open_nursery() as nursery:
            for response in running:
                nursery.start_soon(service.read, response)
            await trio.sleep(1)
            with trio.move_on_after(0.5):
                await service.ask("large")
            await trio.testing.wait_all_tasks_blocked()
            assert service.service.statistics().queues["large"].requests == 0
            for response in running:
                response.cut("test_over", "The test is over.")


async def test_a_higher_tier_goes_first(autojump_clock):
    tiers = """
[tiers.gold]
priority = 10
"""
    async with stage(settings=KEYED + tiers + TENANTS.format(alice='tier = "gold"')) as service:
        order: list[str] = []

        async def ask(name: str, key: str) -> None:
            await service.ask("large", api_key=key, ignore_eos=True, max_tokens=10)
            order.append(name)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask, "first", BOB.raw)
            await trio.sleep(0.05)
            for _ in range(4):
                nursery.start_soon(ask, "bob", BOB.raw)
            await trio.sleep(0.05)
            for _ in range(4):
                nursery.start_soon(ask, "alice", ALICE.raw)
        assert order.index("alice") < order.index("bob")
        assert set(order[5:8]) == {"alice"}


async def test_a_prompt_that_needs_many_blocks_waits_until_they_are_free(autojump_clock):
    async with stage() as service:
        assert service.blocks == 256
        big = tuple(range(5, 405))
        answers = []

        async def ask() -> None:
            from actors.api.request import TokenPrompt

            answers.append(await service.ask("small", prompts=(TokenPrompt(big),), max_tokens=100, ignore_eos=True))

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(ask)
        assert [len(answer.tokens()) for answer in answers] == [100] * 8
        assert service.service.statistics().engines["small"].preemptions_total == 0
