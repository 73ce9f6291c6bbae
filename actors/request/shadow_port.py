"""Where a request's task hands over what a shadow is to copy."""

from hashlib import blake2b

import msgspec
import structlog
import trio

from actors.api.request import InferenceRequest, Principal
from actors.kernel.actor import Mailbox
from actors.kernel.errors import MailboxFull
from actors.prompt.prompt_encoder import PromptEncoder
from actors.request.account import Account
from actors.routing.router import PolicySnapshot
from policies.model.features import Features
from policies.model.load import Load
from policies.model.plan import Plan, PlannedShadow
from policies.rollout.shadow import ShadowAnswer, ShadowBook

log = structlog.get_logger()


class CopiedRequest(msgspec.Struct, frozen=True):
    """An original, as its copy needs it."""

    request: InferenceRequest
    plan: Plan
    snapshot: PolicySnapshot
    features: Features
    load: Load
    principal: Principal
    prompts: PromptEncoder


class Copy(msgspec.Struct, frozen=True):
    """One copy to be made."""

    of: CopiedRequest
    shadow: PlannedShadow


class ShadowPorts:
    """How an original gets its copies: called in its own task, never waits and never raises."""

    def __init__(self, mailbox: Mailbox[Copy], book: ShadowBook) -> None:
        self._mailbox = mailbox
        self._book = book

    def copy(self, of: CopiedRequest, account: Account) -> None:
        """Send the copies that may be made now, and hear of the original's end."""
        try:
            self._copy(of, account)
        except Exception:
            log.exception("shadow_failed", request_id=of.request.request_id)

    def _copy(self, of: CopiedRequest, account: Account) -> None:
        request_id = of.request.request_id
        made: list[str] = []
        for shadow in of.plan.shadows:
            if self._book.begin(shadow.name, request_id, shadow.to, of.load) is not None:
                continue
            made.append(shadow.name)
            try:
                self._mailbox.put_nowait(Copy(of, shadow))
            except MailboxFull:
                self._book.copy_ended(shadow.name, request_id, None, cut=True)
        if made:
            arrived_at, answers = of.request.arrived_at, list[ShadowAnswer]()

            def ended(outcome: str) -> None:
                note_answer(account, outcome, arrived_at, answers)
                for name in made:
                    self._book.original_ended(name, request_id, answers[0] if answers else None)

            account.on_settled = ended


def note_answer(account: Account, outcome: str, since: float, answers: list[ShadowAnswer]) -> None:
    """Append what a shadow comparison needs of an answer that has ended; `since`: when it arrived."""
    if outcome == "ok":
        digest = blake2b(digest_size=16)
        for told in account.told:
            text = "".join(told.texts).encode()
            digest.update(b"%d:" % len(text))
            digest.update(text)
        tokens = sum([len(told.token_ids) for told in account.told])
        answers.append(ShadowAnswer(digest.digest(), tokens, trio.current_time() - since))
