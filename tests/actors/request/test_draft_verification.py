"""Mode `verified`: the large model's own answer, drafted by the small one, through every actor."""

import re

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.api.response import Done, Failed
from engine.sampling.grammar import Grammar
from tests.actors.fakes import CONFIG, Answer, says, stage
from tests.engine.tiny_tokenizers import byte_level_tokenizer

TEXT = "the quick brown fox jumps over 0123456789 naïve 東京 👍🏽 and the lazy dog"
TOKENS = byte_level_tokenizer().encode(TEXT)
EOS = next(iter(byte_level_tokenizer().eos_ids))


def config(*, draft_tokens: int = 64, off_above_batch: int = 16, midstream: str = "error") -> str:
    return (
        CONFIG.replace("[models.whole]", "[models.whole]\n[models.checked]").replace(
            '[[routes]]\nname = "gate"',
            '[[routes]]\nname = "checked"\nwhen = { model = ["checked"] }\nuse = { cascade = "checked" }\n'
            f'midstream = "{midstream}"\n[[routes]]\nname = "gate"',
        )
        + f"""
[cascades.checked]
stages = ["small", "large"]
emit = {{ mode = "verified", draft_tokens = {draft_tokens}, off_above_batch = {off_above_batch} }}
on_failure = "small-last"
[[ladders.small-last]]
to = "small"
mark = "degraded"
"""
    )


def wrong_at(*places: int):
    """A runner's script that says TEXT, but for these output positions."""
    right = says(TEXT)

    def script(sample):
        token_id, margin = right(sample)
        return (300 if sample.position - 4 in places else token_id), margin

    return script


def scripts(small=None, large=None):
    return {"small": small or says(TEXT), "large": large or says(TEXT)}


def attempts(answer: Answer) -> list[tuple[str, str, str]]:
    return [(each.rung, each.outcome, each.why) for each in answer.end.served.attempts]


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_right_draft_takes_the_large_engine_one_step(autojump_clock, streamed):
    async with stage(scripts(), settings=config()) as service:
        answer = await service.ask("checked", streamed=streamed)
        assert (answer.text(), answer.tokens()) == (TEXT, [*TOKENS, EOS])
        served = answer.end.served
        assert (answer.start.rung, served.rung, served.why) == ("large", "large", "verified")
        assert attempts(answer) == [("large", "answered", "verified")]
        assert (served.drafted_tokens, served.accepted_tokens) == (len(TOKENS) + 1, len(TOKENS) + 1)
        assert (service.runners["large"][0].steps, service.runners["small"][0].steps) == (1, len(TOKENS) + 1)
        assert answer.end.usage.prompt_tokens == 4
        assert answer.end.usage.completion_tokens == len(TOKENS) + 1
        await service.assert_clean()
        row = service.row("r1")
        assert (row["rung"], row["why"], row["discarded_tokens"]) == ("large", "verified", len(TOKENS) + 1)


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("wrong", [(0,), (3,), (0, 1, 2), (5, 9, 20), tuple(range(99)), (len(TOKENS),)])
@pytest.mark.parametrize(
    "params",
    [{}, {"stop": ("jumps", "345")}, {"logprobs": 1, "max_tokens": 12}, {"min_tokens": 70}, {"temperature": 1.0}],
)
async def test_the_answer_is_the_large_models_own(autojump_clock, streamed, wrong, params):
    """Whatever the small one says, and however fast it says it."""
    async with stage(scripts(small=wrong_at(*wrong)), settings=config(draft_tokens=7)) as service:
        service.worker("small").step_s = 0.01
        alone = await service.ask("large", streamed=streamed, **params)
        answer = await service.ask("checked", streamed=streamed, **params)
        assert (answer.text(), answer.tokens(), answer.reasons()) == (alone.text(), alone.tokens(), alone.reasons())
        assert logprobs(answer) == logprobs(alone)
        assert answer.end.usage.completion_tokens == alone.end.usage.completion_tokens
        assert answer.end.served.rung == "large"


def logprobs(answer: Answer) -> list:
    return [each for event in answer.events for each in getattr(event, "logprobs", ())]


async def test_nothing_is_shown_before_the_large_engine_has_said_it(autojump_clock):
    async with stage(scripts(small=wrong_at(8)), settings=config()) as service:
        response = await service.open("checked")
        shown = []
        while events := await response.next_events():
            shown += [token for event in events for token in getattr(event, "token_ids", ())]
            assert service.runners["large"][0].steps
            assert shown == [*TOKENS, EOS][: len(shown)]
        response.close()


async def test_drafts_go_on_round_by_round_while_the_large_engine_goes_on_too(autojump_clock):
    async with stage(scripts(small=wrong_at(20)), settings=config(draft_tokens=8)) as service:
        service.worker("small").step_s = 0.005
        answer = await service.ask("checked")
        assert answer.text() == TEXT
        served = answer.end.served
        assert served.accepted_tokens >= 20
        assert service.runners["large"][0].steps <= 1 + len(TOKENS) + 1 - served.accepted_tokens
        assert service.runners["small"][0].steps > 20


async def test_poor_drafts_end_the_drafting(autojump_clock):
    async with stage(scripts(small=wrong_at(*range(99))), settings=config(draft_tokens=8)) as service:
        service.worker("small").step_s = 0.005
        answer = await service.ask("checked")
        assert answer.text() == TEXT
        assert answer.end.served.why == "verified"
        assert answer.end.served.accepted_tokens == 0
        assert service.runners["small"][0].steps <= 8 + 4
        assert service.runners["large"][0].steps == len(TOKENS) + 1


async def test_without_a_seed_both_engines_draw_alike(autojump_clock):
    """The fake's tokens are a hash of what came before and of the seed: only with one seed can a draft be right."""
    async with stage(settings=config()) as service:
        first, second = [
            await service.ask("checked", temperature=1.0, max_tokens=20, ignore_eos=True) for _ in range(2)
        ]
        assert first.end.served.accepted_tokens == 19
        assert first.tokens() != second.tokens()
        seeded = [await service.ask(model, temperature=1.0, max_tokens=20, seed=5) for model in ("checked", "large")]
        assert seeded[0].tokens() == seeded[1].tokens()


# --- when nothing is drafted ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("options", [{"n": 2}, {"prompts": None}])
async def test_several_choices_are_answered_by_the_large_engine_alone(autojump_clock, options):
    from actors.api.request import TokenPrompt

    if "prompts" in options:
        options = {"prompts": (TokenPrompt((5, 6, 7, 8)), TokenPrompt((5, 6, 7, 9)))}
    async with stage(scripts(), settings=config()) as service:
        answer = await service.ask("checked", **options)
        assert (answer.text(0), answer.text(1)) == (TEXT, TEXT)
        assert attempts(answer) == [("large", "answered", "several_choices")]
        assert service.runners["small"][0].steps == 0


async def test_a_full_batch_is_not_given_drafts(autojump_clock):
    async with stage(scripts(), settings=config(off_above_batch=0)) as service:
        other = await service.open("large")
        await other.next_events()
        answer = await service.ask("checked")
        assert answer.text() == TEXT
        assert (answer.end.served.why, answer.end.served.drafted_tokens) == ("large_busy", 0)
        assert service.runners["small"][0].steps == 0
        other.close()


async def test_a_full_batch_ends_the_drafting(autojump_clock):
    async with stage(scripts(small=wrong_at(3)), settings=config(off_above_batch=0)) as service:
        service.worker("small").step_s = 0.005
        answer = await service.ask("checked")
        assert (answer.text(), answer.end.served.why) == (TEXT, "verified")
        assert service.runners["large"][0].steps == len(TOKENS) + 1 - 3


async def test_a_single_token_is_not_worth_a_draft(autojump_clock):
    async with stage(scripts(), settings=config()) as service:
        answer = await service.ask("checked", max_tokens=2)
        assert (answer.tokens(), answer.end.served.why) == (TOKENS[:2], "too_short")


async def test_a_small_model_without_room_leaves_the_large_one_alone(autojump_clock):
    async with stage(scripts(), settings=config(), lengths={"small": 4}) as service:
        answer = await service.ask("checked")
        assert (answer.text(), answer.end.served.why) == (TEXT, "no_room_to_draft")
        assert service.runners["small"][0].steps == 0


# --- faults ---------------------------------------------------------------------------------------------------------
def fail_at(step):
    def on_step(number, batch):
        if number == step:
            raise RuntimeError("no more memory")

    return on_step


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("step", [0, 5])
async def test_a_small_engine_that_fails_leaves_the_large_one_alone(autojump_clock, streamed, step):
    async with stage(scripts(), settings=config()) as service:
        service.on_step["small"] = fail_at(step)
        answer = await service.ask("checked", streamed=streamed)
        assert answer.text() == TEXT
        assert attempts(answer) == [("large", "answered", "verified" if step else "draft_failed")]
        assert answer.end.served.accepted_tokens == step
        del service.on_step["small"]
        await service.until_ready()
        await trio.sleep(1)


async def test_a_small_engine_that_fails_in_a_later_round_changes_nothing(autojump_clock):
    async with stage(scripts(small=wrong_at(4)), settings=config(draft_tokens=6)) as service:
        service.worker("small").step_s = 0.005
        service.on_step["small"] = fail_at(8)
        answer = await service.ask("checked")
        assert (answer.text(), answer.end.served.why) == (TEXT, "verified")
        del service.on_step["small"]
        await trio.sleep(1)


async def test_a_slow_draft_is_not_waited_for(autojump_clock):
    async with stage(scripts(), settings=config()) as service:
        service.worker("small").step_s = 2.0
        began = trio.current_time()
        answer = await service.ask("checked")
        assert answer.text() == TEXT
        assert answer.end.served.accepted_tokens == 3
        assert trio.current_time() - began < 7.5 + 0.1 * len(TOKENS)
        service.worker("small").step_s = 0.1
        await trio.sleep(3)


async def test_an_open_breaker_of_the_small_engine_means_no_drafts(autojump_clock):
    settings = config().replace('mark = "degraded"', 'breaker = { at_least = 1, failure_rate = 0.5, open = "60s" }')
    async with stage(scripts(), settings=settings) as service:
        service.on_step["small"] = fail_at(0)
        assert (await service.ask("checked")).end.served.why == "draft_failed"
        del service.on_step["small"]
        await trio.sleep(1)
        answer = await service.ask("checked")
        assert (answer.text(), answer.end.served.why) == (TEXT, "small_unavailable")


@pytest.mark.parametrize("midstream", ["error", "continue"])
async def test_a_large_engine_that_fails_is_the_ladders_business(autojump_clock, midstream):
    async with stage(scripts(small=wrong_at(6)), settings=config(midstream=midstream)) as service:
        service.on_step["large"] = fail_at(3)
        answer = await service.ask("checked")
        if midstream == "error":
            assert isinstance(answer.end, Failed)
            assert answer.tokens() == TOKENS[: len(answer.tokens())]
            assert len(answer.tokens()) >= 7
        else:
            assert isinstance(answer.end, Done)
            assert answer.text() == TEXT
            assert (answer.end.served.rung, answer.end.served.mark) == ("small", "degraded")
        del service.on_step["large"]
        await trio.sleep(1)


async def test_a_large_engine_that_fails_before_content_is_replaced(autojump_clock):
    async with stage(scripts(), settings=config()) as service:
        service.on_step["large"] = fail_at(0)
        answer = await service.ask("checked")
        assert (answer.text(), answer.end.served.rung) == (TEXT, "small")
        del service.on_step["large"]
        await trio.sleep(1)


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.35, 0.62, 1.5, 2.4])
async def test_a_client_that_leaves_frees_both_engines(autojump_clock, after_s):
    """Before the draft, within it, and within a later round: `stage` looks for what is left."""
    async with stage(scripts(small=wrong_at(4)), settings=config(draft_tokens=6)) as service:
        response = await service.open("checked")
        with trio.move_on_after(after_s):
            while await response.next_events():
                pass
        response.close()
        await wait_all_tasks_blocked()
        await service.assert_clean()
        assert service.row("r1")["outcome"] == "gone"


async def test_many_at_once(autojump_clock):
    async with stage(scripts(small=wrong_at(4, 11)), settings=config(draft_tokens=5, off_above_batch=2)) as service:
        service.worker("small").step_s = 0.02
        answers: list[Answer] = []

        async def ask(delay):
            await trio.sleep(delay)
            answers.append(await service.ask("checked"))

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(ask, 0.3 * number)
        assert [answer.text() for answer in answers] == [TEXT] * 8
        assert {"verified"} <= {answer.end.served.why for answer in answers}


async def test_verified_answers_keep_their_grammar(autojump_clock):
    """Drafts of the small model are held to the same grammar as the large one's own tokens."""
    text = '{"a": 12345678901234567890}'
    grammar = Grammar("json_schema", '{"type": "object"}')
    right, wrong = says(text), says('{"a": 12345678901999999990}')
    for small in (right, wrong, says("no json at all")):
        async with stage(scripts(small=small, large=right), settings=config(draft_tokens=6)) as service:
            answer = await service.ask("checked", grammar=grammar)
            assert (answer.text(), answer.reasons()) == (text, ["stop"])
    async with stage({}, settings=config(draft_tokens=6)) as service:
        bound = Grammar("regex", "[0-9]{4}(-[0-9]{2}){6}")
        answer = await service.ask("checked", grammar=bound)
        assert re.fullmatch("[0-9]{4}(-[0-9]{2}){6}", answer.text())
        assert answer.text() == (await service.ask("large", grammar=bound)).text()
