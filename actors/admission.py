"""Who may use how much: the shell of `policies.quota`, and the sentences in which it refuses."""

import trio

from actors.actor import Actor
from actors.errors import OverQuota
from actors.mail import AdmissionMessage, Reserve, Settle
from actors.mailbox import Mailbox
from policies.quota import QuotaBook, QuotaRefusal, Reservation


class Admission(Actor[AdmissionMessage]):
    """Answers `Reserve`; obeys `Settle`. The book outlives its restarts, so no reservation is forgotten."""

    def __init__(self, mailbox: Mailbox[AdmissionMessage], book: QuotaBook) -> None:
        super().__init__(mailbox)
        self._book = book

    def on(self, message: AdmissionMessage) -> None:
        """One reservation or its end."""
        now = trio.current_time()
        match message:
            case Reserve(tenant, tokens, reply):
                answer = self._book.reserve(tenant, tokens, now)
                if not reply.set(answer) and isinstance(answer, Reservation):
                    # Its task was cancelled while it waited: nobody else would ever settle it.
                    self._book.cancel(answer, now)
            case Settle(reservation, None):
                self._book.cancel(reservation, now)
            case Settle(reservation, int(used)):
                self._book.settle(reservation, used, now)


def over_quota(refusal: QuotaRefusal) -> OverQuota:
    """What the client reads."""
    return OverQuota(f"{refusal.limit}_exceeded", str(refusal), _resets_in_s(refusal))


def _resets_in_s(refusal: QuotaRefusal) -> float | None:
    # One of the running requests ends when it ends: a second is as good a guess as any.
    return 1.0 if refusal.limit == "concurrent" else refusal.resets_in_s
