"""What is refused before work is done for it: no prompt is read, no grammar compiled, no step computed."""

from typing import Any, NamedTuple

import pytest

from actors.api.request import ChatMessage, ChatPrompt, TextPrompt, TokenPrompt
from engine.sampling.grammar import Grammar
from engine.text.tokenizer import LONG_CHARACTERS
from policies.admission.keys import RANDOM_BYTES, new_key
from tests.actors.fakes import CONFIG, Stage, says, stage

ALICE = new_key("alice", bytes(range(RANDOM_BYTES)))
LONG = "x" * LONG_CHARACTERS
CHAT = (ChatPrompt((ChatMessage("user", LONG),)),)
TEXT = (TextPrompt(LONG),)
TOKENS = (TokenPrompt(tuple(range(5, 105))),)
GRAMMAR = Grammar("regex", "a+")


class Case(NamedTuple):
    limits: str
    """Of the tenant; one of its requests runs, of 4 tokens and at most 10 more."""
    asked: dict[str, Any]
    code: str
    work: int = 0
    """Pieces of long work done for it."""


CASES = {
    "a chat, too many at once": Case("concurrent = 1", {"prompts": CHAT}, "concurrent_exceeded"),
    "a text, too many at once": Case("concurrent = 1", {"prompts": TEXT}, "concurrent_exceeded"),
    "a grammar, too many at once": Case("concurrent = 1", {"grammar": GRAMMAR}, "concurrent_exceeded"),
    "too many a minute": Case("requests_per_minute = 1", {"prompts": CHAT}, "requests_per_minute_exceeded"),
    "no tokens left": Case("tokens = { per_minute = 14 }", {"prompts": CHAT}, "tokens_per_minute_exceeded"),
    "no tokens left today": Case("tokens = { per_day = 14 }", {"prompts": TEXT}, "tokens_per_day_exceeded"),
    "more token ids than are left": Case(
        "tokens = { per_minute = 110 }", {"prompts": TOKENS, "grammar": GRAMMAR}, "tokens_per_minute_exceeded"
    ),
    "more choices than tokens are left": Case(
        "tokens = { per_minute = 1_000 }", {"n": 4, "max_tokens": 300}, "tokens_per_minute_exceeded"
    ),
    "more output than the model has room for": Case("", {"max_tokens": 100_000}, "context_length_exceeded"),
    "more output of several choices": Case("", {"n": 4, "max_tokens": 600}, "context_length_exceeded"),
    "a prompt longer than the model's": Case("", {"prompts": (TokenPrompt((5,) * 600),)}, "context_length_exceeded"),
    # What follows is known only when the prompt is read: then it is, and nothing else is done.
    "a long text, read": Case("", {"prompts": TEXT}, "context_length_exceeded", work=1),
    "a long text that exceeds what is left": Case(
        "tokens = { per_minute = 400 }",
        {"prompts": TEXT, "truncate_prompt_tokens": 395},
        "tokens_per_minute_exceeded",
        1,
    ),
}


def settings(limits: str) -> str:
    key = f'[[keys]]\nid = "{ALICE.settings.id}"\ntenant = "alice"\nhash = "{ALICE.settings.hash}"\n'
    return f"{CONFIG}{key}[tenants.alice]\n{limits}\n"


def counting(service: Stage) -> list[object]:
    """Pieces of long work from now on."""
    done: list[object] = []
    beside = service.workers.run_in_thread

    async def run_in_thread(job: Any, work_for: Any = None) -> Any:
        done.append(job)
        return await beside(job, work_for)

    service.workers.run_in_thread = run_in_thread  # type: ignore[method-assign]
    return done


@pytest.mark.parametrize("name", CASES)
async def test_it_is_refused_before_the_work(autojump_clock, name: str) -> None:
    case = CASES[name]
    async with stage({"small": says("ok")}, settings=settings(case.limits)) as service:
        running = await service.open("small", api_key=ALICE.raw, ignore_eos=True, max_tokens=10)
        before = service.service.statistics().engines["small"].prompt_tokens_total
        work = counting(service)
        answer = await service.ask(
            "small", api_key=ALICE.raw, **{"max_tokens": 5, "body_bytes": LONG_CHARACTERS, **case.asked}
        )
        assert answer.refusal is not None
        assert (answer.refusal.body.code, len(work)) == (case.code, case.work)
        assert service.service.statistics().engines["small"].prompt_tokens_total == before
        kept = service.service.admin.decision("r2")
        assert kept is not None
        assert (kept.outcome, kept.code) == ("refused", case.code)
        running.close()


async def test_there_is_room_as_soon_as_the_other_has_ended(autojump_clock) -> None:
    async with stage({"small": says("ok")}, settings=settings("concurrent = 1")) as service:
        running = await service.open("small", api_key=ALICE.raw, ignore_eos=True)
        running.close()
        answer = await service.ask("small", api_key=ALICE.raw, grammar=Grammar("regex", "ok"), max_tokens=5)
        assert answer.refusal is None
