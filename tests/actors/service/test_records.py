"""What is kept of each decision, whatever became of it."""

import trio

from policies.records.decision_record import DecisionRecord, decode_record, encode_record
from tests.actors.fakes import CONFIG, Stage, says, stage

STATIC = CONFIG + '[[ladders.large-only]]\nanswer = "Please try again."\n'


def record(service: Stage, number: int = 1) -> DecisionRecord:
    found = service.service.admin.decision(f"r{number}")
    assert found is not None
    assert decode_record(encode_record(found)) == found
    return found


async def test_an_answer_leaves_a_whole_record_without_text(autojump_clock):
    async with stage({"small": says("secret words")}) as service:
        running = await service.open("small", text="a private question")
        begun = record(service)
        assert (begun.outcome, begun.plan is not None, begun.timings.total) == ("", True, None)
        answer = await service.read(running)
        kept = record(service)
        assert (kept.outcome, kept.rung, kept.code) == ("ok", "small", "")
        assert kept.policy == answer.end.served.policy == service.service.policy
        assert kept.plan is not None
        assert kept.plan.route == "small"
        assert kept.tokens.completion == answer.end.usage.completion_tokens
        started, ttft, total = kept.timings.started, kept.timings.ttft, kept.timings.total
        assert started is not None
        assert ttft is not None
        assert total is not None
        assert 0 <= started < ttft <= total
        assert set(kept.load.engines) == {"small", "large"}
        raw = encode_record(kept)
        assert b"secret" not in raw
        assert b"private" not in raw


async def test_a_cascade_leaves_its_statistic_and_its_attempts(autojump_clock):
    async with stage({"small": says("unsure", {2: 0.25}), "large": says("sure")}) as service:
        await service.ask("whole")
        kept = record(service)
        assert (kept.rung, kept.statistic) == ("large", 0.25)
        assert [(each.rung, each.outcome) for each in kept.attempts] == [("small", "escalated"), ("large", "answered")]


async def test_refusals_say_why(autojump_clock):
    text = (
        CONFIG.replace("queue = { wait", "admit_below = 1.0\nqueue = { wait") + "[tenants.anonymous]\nconcurrent = 1\n"
    )
    async with stage({"small": says("ok")}, settings=text) as service:
        running = await service.open("small", ignore_eos=True)
        refused = await service.ask("small")
        assert refused.refusal.body.status == 429
        kept = record(service, 2)
        assert (kept.outcome, kept.code, kept.plan is not None) == ("refused", "concurrent_exceeded", True)
        running.close()
        assert (record(service).outcome, record(service).code) == ("gone", "client_gone")


async def test_an_answer_of_the_ladder_names_it(autojump_clock):
    async with stage(settings=STATIC, clean=False) as service:
        service.load_error["large"] = "broken"
        service.worker("large").hang = True
        service.service._breakers.breakers["large"]._open(trio.current_time())
        answer = await service.ask("large")
        assert answer.text() == "Please try again."
        assert record(service).rung == "static_answer"


async def test_whoever_is_not_known_leaves_none(autojump_clock):
    async with stage({"small": says("ok")}) as service:
        assert (await service.ask("nothing")).refusal.body.code == "model_not_found"
        assert service.service.admin.decision("r1") is None
