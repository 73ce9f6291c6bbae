"""A cascade's judge reads the small answer when it is whole: what it says, what it costs, and when it cannot judge."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.api.request import BegunAnswer, ChatMessage, ChatPrompt
from actors.api.response import Delta, Done, Failed, Start
from engine.errors import EngineError
from engine.model.vectors import EmbeddingSizes
from policies.admission.keys import RANDOM_BYTES, new_key
from policies.judging.question import predicate
from tests.actors.fakes import CONFIG, Answer, Stage, model_text, says, stage
from tests.actors.request.test_response_stream import outcomes
from tests.actors.upstream.network import says as upstream_says
from tests.actors.upstream.test_upstream_actor import stage as upstream_stage
from tests.engine.tiny_tokenizers import byte_level_tokenizer
from tests.gateway.endpoints.vectors.test_decisions import judged_as

ASKED = ChatPrompt((ChatMessage("user", "Hi"),))
KEY = new_key("alice", bytes(range(RANDOM_BYTES)))
SMALL, LARGE = "a fox", "the quick brown fox"
JUDGE = """
[engines.labels]
model = "labels"
[[ladders.labels]]
to = "labels"
[models.labels]
"""
ROUTE = '[[routes]]\nname = "labels"\nwhen = { model = ["labels"] }\nuse = { ladder = "labels" }\n'
ENCODERS = {"labels": EmbeddingSizes(2, labels=("good", "bad"))}


def score(answer: str) -> float:
    """What the fake classifier says to "good"."""
    return 1 / (1 + len(byte_level_tokenizer().encode(f"user: Hi\n\nassistant: {answer}")))


def configured(threshold: float, *, defer: bool = True, **more: str) -> str:
    """The cascade with mode gate has a judge."""
    lines = "".join([f'{key} = "{value}"\n' for key, value in more.items()])
    by = f'[cascades.gate.judge]\nmodel = "labels"\nlabels = ["good"]\nthreshold = {threshold}\n{lines}'
    text = CONFIG.replace("[[routes]]", f"{ROUTE}[[routes]]", 1).replace('emit = { mode = "gate" }\n', "")
    if not defer:
        text = text.replace(
            '[cascades.gate]\nstages = ["small", "large"]\ndefer = { statistic = "min_margin", threshold = 1.0 }\n',
            '[cascades.gate]\nstages = ["small", "large"]\n',
        )
    return f"{text}{JUDGE}{by}"


def staged(settings: str, margins: dict[int, float] | None = None, **more: Any):
    prompt = len(model_text().encode(ASKED))
    scripts = {"small": says(SMALL, margins, prompt=prompt), "large": says(LARGE, prompt=prompt)}
    return stage(scripts, settings=settings, encoders=ENCODERS, **more)


async def ask(service: Stage, **options: Any) -> Answer:
    return await service.ask("whole", prompts=(ASKED,), **options)


@pytest.mark.parametrize("defer", [True, False])
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("good", [True, False])
async def test_the_judge_decides_about_an_answer_that_is_whole(autojump_clock, good, streamed, defer) -> None:
    threshold = score(SMALL) * (0.999 if good else 1.001)
    async with staged(configured(threshold, defer=defer)) as service:
        answer = await ask(service, streamed=streamed)
        served = answer.end.served
        assert served.judged == pytest.approx(score(SMALL))
        if good:
            assert (answer.text(), served.rung, served.why) == (SMALL, "small", "judged_good")
        else:
            assert (answer.text(), served.rung) == (LARGE, "large")
            assert outcomes(answer) == [("small", "escalated", "judged_bad"), ("large", "answered", "judged_bad")]
        await service.assert_clean()
        row = service.row("r1-judge")
        assert (row["outcome"], row["model"], row["completion_tokens"]) == ("ok", "labels", 0)
        assert row["prompt_tokens"] == round(1 / score(SMALL)) - 1
        escalations = service.service.statistics().escalations_total
        assert escalations == ({} if good else {("gate", "judged_bad"): 1})


async def test_a_low_margin_escalates_before_the_judge_is_asked(autojump_clock) -> None:
    async with staged(configured(0.001), {1: 0.4}) as service:
        answer = await ask(service)
        assert outcomes(answer)[0] == ("small", "escalated", "low_margin")
        assert answer.end.served.judged is None
        assert set(service.rows()) == {"r1"}


async def test_without_defer_no_margin_escalates(autojump_clock) -> None:
    async with staged(configured(0.001, defer=False), {1: 0.0}) as service:
        assert (await ask(service)).text() == SMALL


async def test_every_choice_is_judged_and_the_least_decides(autojump_clock) -> None:
    async with staged(configured(score(SMALL) * 0.999)) as service:
        answer = await ask(service, n=2)
        assert [answer.text(index) for index in range(2)] == [SMALL, SMALL]
        await service.assert_clean()
        assert set(service.rows()) == {"r1", "r1-judge-0", "r1-judge-1"}


def breaks(*_: object) -> None:
    raise EngineError("broken", "it broke")


@pytest.mark.parametrize("on_failure", ["escalate", "accept"])
@pytest.mark.parametrize("why", ["token ids", "too long", "no such label", "it breaks", "it takes too long"])
async def test_an_answer_that_cannot_be_judged(autojump_clock, why: str, on_failure: str) -> None:
    settings = configured(0.001, on_failure=on_failure)
    options: dict[str, Any] = {"prompts": (ASKED,)}
    if why == "no such label":
        settings = settings.replace('labels = ["good"]', 'labels = ["godo"]')
    if why == "it takes too long":
        settings = settings.replace("[[routes]]", '[[routes]]\ndeadlines = { stall = "2s" }')
    async with staged(settings, lengths={"labels": 4 if why == "too long" else 64}) as service:
        if why == "token ids":
            del options["prompts"]
        if why == "it breaks":
            service.on_step["labels"] = breaks
        if why == "it takes too long":
            service.worker("labels").hang = True
        answer = await service.ask("whole", **options)
        served = answer.end.served
        assert (served.why, served.judged) == ("not_judged", None)
        assert served.rung == ("large" if on_failure == "escalate" else "small")


LIMITED = "[tenants.anonymous]\nconcurrent = 1\nrequests_per_minute = 1\ntokens = { per_minute = 40 }\n"


async def test_the_limits_of_the_tenant_count_a_judgement_and_do_not_refuse_it(autojump_clock) -> None:
    async with staged(configured(0.001) + LIMITED) as service:
        answer = await ask(service, max_tokens=20)
        assert answer.end.served.why == "judged_good"
        assert service.quota_use().minute_requests == 2
        refused = await ask(service, max_tokens=20)
        assert refused.refusal is not None


async def test_a_key_that_expires_while_the_answer_is_made_may_be_judged_yet(autojump_clock) -> None:
    expires, now = 1_000_000.0, [999_999.0]
    settings = (
        f'{configured(0.001)}[tenants.alice]\n[[keys]]\nid = "{KEY.settings.id}"\ntenant = "alice"\n'
        f'hash = "{KEY.settings.hash}"\nexpires = {datetime.fromtimestamp(expires, UTC).isoformat()}\n'
    )
    async with staged(settings, wall=lambda: now[0]) as service:

        def passes(*_: object) -> None:
            now[0] = expires + 1

        service.on_step["small"] = passes
        answer = await ask(service, api_key=KEY.raw)
        assert (answer.end.served.why, answer.end.served.rung) == ("judged_good", "small")
        refused = await ask(service, api_key=KEY.raw)
        assert refused.refusal is not None
        assert refused.refusal.body.code == "api_key_expired"


GUARDRAIL = """
[guardrails.{name}]
model = "labels"
labels = ["good"]
reads = "answer"
threshold = 0.001
action = "{action}"
"""


async def test_a_guardrail_judges_what_an_earlier_process_has_begun(autojump_clock) -> None:
    """A part was sent by a process that had no such guardrail: the rest ends with the error."""
    guarded = configured(0.001) + GUARDRAIL.format(name="all", action="refuse")
    async with staged(guarded) as service:
        first = (
            Start("small", "small", 1, (), tokenizer="tiny"),
            Delta(0, "a", tuple(byte_level_tokenizer().encode("a"))),
        )
        request = service.request("small", prompts=(ASKED,))
        request = msgspec.structs.replace(request, begun=BegunAnswer("anonymous", first))
        answer = await service.read(await service.service.open(request))
        assert isinstance(answer.end, Failed)
        assert answer.end.error.code == "guardrail_refused"


async def test_guardrails_have_no_longer_than_the_answer(autojump_clock) -> None:
    settings = (configured(0.001) + GUARDRAIL.format(name="all", action="refuse")).replace(
        '[[routes]]\nname = "small"', '[[routes]]\ndeadlines = { total = "5s", ttft = "5s" }\nname = "small"'
    )
    async with staged(settings, clean=False) as service:
        service.worker("labels").hang = True
        began = trio.current_time()
        answer = await service.ask("small", prompts=(ASKED,))
        assert answer.refusal is not None
        assert answer.refusal.body.code == "guardrail_failed"
        assert trio.current_time() - began == pytest.approx(5, abs=0.5)


async def test_no_judgement_begins_after_a_drain_has_cut_the_answers(autojump_clock) -> None:
    tables = GUARDRAIL.format(name="first", action="log") + GUARDRAIL.format(name="second", action="refuse")
    async with staged(configured(0.001) + tables, clean=False) as service:
        service.worker("labels").hang = True
        ended = []

        async def read() -> None:
            ended.append(await service.ask("small", prompts=(ASKED,)))

        with trio.fail_after(15):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await trio.sleep(3)
                await service.service.drain(trio.current_time() + 3)
        assert ended[0].refusal is not None
        assert set(service.rows()) == {"r1", "r1-first"}


async def test_a_client_that_leaves_while_it_is_judged_leaves_nothing(autojump_clock) -> None:
    async with staged(configured(0.001)) as service:
        service.worker("labels").hang = True
        with trio.move_on_after(1):
            await ask(service)
        service.worker("labels").hang = False
        service.worker("labels").send(None)  # anything wakes it
        await service.assert_clean()
        assert service.row("r1")["outcome"] == "gone"


async def test_an_answer_is_judged_while_the_server_drains(autojump_clock) -> None:
    async with staged(configured(0.001)) as service:
        response = await service.open("whole", prompts=(ASKED,))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.service.drain, trio.current_time() + 10)
            await wait_all_tasks_blocked()
            answer = await service.read(response)
        assert isinstance(answer.end, Done), answer.end
        assert answer.end.served.why == "judged_good"


async def test_a_predicate_is_asked_about_the_conversation_and_the_answer(autojump_clock) -> None:
    asked = predicate("Is it good?")
    about = f"user: Hi\n\nassistant: {SMALL}"
    share = judged_as(asked, about, temperature=200.0)
    table = (
        '[decisions.large]\ntemperature = 200.0\n[cascades.gate.judge]\nmodel = "large"\npredicate = "Is it good?"\n'
    )
    for more, why in ((1e-6, "judged_bad"), (-1e-6, "judged_good")):
        settings = f"{CONFIG}{table}threshold = {share * (1 + more)!r}\n"
        prompt = len(model_text().encode(ASKED))
        async with stage({"small": says(SMALL, prompt=prompt)}, settings=settings) as service:
            answer = await ask(service, max_tokens=12)
            assert not isinstance(answer.end, Failed)
            assert answer.end.served.why == why


UPSTREAMS = f"""
schema = 1
[ledger]
path = ":memory:"
[engines.labels]
model = "labels"
[upstreams.cheap]
urls = ["http://cheap/v1"]
[upstreams.cloud]
urls = ["http://cloud/v1"]
[models.all]
[models.labels]
{ROUTE}
[[routes]]
name = "all"
use = {{ cascade = "judged" }}
[cascades.judged]
stages = ["cheap", "cloud"]
on_failure = "safe"
[cascades.judged.judge]
model = "labels"
labels = ["good"]
threshold = {score(SMALL)}
[[ladders.labels]]
to = "labels"
[[ladders.safe]]
to = "cloud"
"""


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("good", [True, False])
async def test_between_two_upstreams_only_a_judge_can_decide(autojump_clock, good: bool, streamed: bool) -> None:
    # The fake classifier likes short answers.
    cheap = SMALL[:3] if good else f"{SMALL} and more"
    servers = {"cheap": upstream_says(cheap), "cloud": upstream_says(LARGE)}
    async with upstream_stage(servers, text=UPSTREAMS, encoders=ENCODERS) as (service, _):
        answer = await service.ask("all", prompts=(ASKED,), streamed=streamed)
        assert answer.text() == (cheap if good else LARGE)
        why = "judged_good" if good else "judged_bad"
        assert outcomes(answer)[0] == ("cheap", "answered" if good else "escalated", why)
        assert answer.end.served.judged is not None
