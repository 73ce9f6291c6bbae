"""How a request's task sends copies of the request to the shadows' actor."""

from hashlib import blake2b

import msgspec
import structlog
import trio

from actors.api.request import InferenceRequest
from actors.kernel.actor import Mailbox
from actors.kernel.errors import MailboxFull
from actors.prompt.request_text import RequestText
from actors.request.account import Account
from actors.routing.router import PolicySnapshot
from policies.model.plan import PlannedShadow
from policies.rollout.shadow import ShadowAnswer, ShadowBook
from policies.routing.planner import Planned

log = structlog.get_logger()


class CopiedRequest(msgspec.Struct, frozen=True):
    """What a copy needs of its original."""

    request: InferenceRequest
    decided: Planned
    snapshot: PolicySnapshot
    cache_salt: bytes
    text: RequestText


class Copy(msgspec.Struct, frozen=True):
    """One copy to be made."""

    of: CopiedRequest
    shadow: PlannedShadow


class ShadowPorts:
    """Called in the original's task; never waits and never raises."""

    def __init__(self, mailbox: Mailbox[Copy], book: ShadowBook) -> None:
        self._mailbox = mailbox
        self._book = book

    def copy(self, of: CopiedRequest, account: Account) -> None:
        """Send the copies that may be made now, and note the original's end for the comparison."""
        try:
            self._copy(of, account)
        except Exception:
            log.exception("shadow_failed", request_id=of.request.request_id)

    def _copy(self, of: CopiedRequest, account: Account) -> None:
        request_id = of.request.request_id
        made: list[str] = []
        for shadow in of.decided.plan.shadows:
            if self._book.begin(shadow.name, request_id, shadow.to, of.decided.load) is not None:
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
    """Append what a shadow comparison needs of a complete answer; `since`: when the request arrived."""
    if outcome == "ok":
        digest = blake2b(digest_size=16)
        for choice in account.emitted:
            text = "".join(choice.texts).encode()
            digest.update(b"%d:" % len(text))
            digest.update(text)
        tokens = sum([len(choice.token_ids) for choice in account.emitted])
        answers.append(ShadowAnswer(digest.digest(), tokens, trio.current_time() - since))
