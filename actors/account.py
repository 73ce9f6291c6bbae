"""The account of one answer: what its reader has, what that is worth, and its one settlement."""

import trio

from actors.colleagues import Colleagues
from actors.mail import Close, Closing, Settle
from actors.messages import Delta, InferenceRequest, Usage
from actors.statistics import RequestKey
from policies.climb import AttemptRecord, Prefix
from policies.quota import Reservation


class Told:
    """What the reader has of one choice."""

    __slots__ = ("finished", "texts", "token_ids")

    def __init__(self) -> None:
        self.token_ids: list[int] = []
        self.texts: list[str] = []
        self.finished = False


class Account:
    """Kept by the answer's own task. `settle` is called exactly once, on every way out."""

    def __init__(
        self,
        request: InferenceRequest,
        *,
        tenant: str,
        route: str,
        prompt_tokens: int,
        reservation: Reservation,
        line: int,
        colleagues: Colleagues,
    ) -> None:
        """`line`: the number of the ledger's line."""
        self.prompt_tokens = prompt_tokens
        self.told: list[Told] = []
        self.worked = False
        """An engine has begun to work on it, so that its prompt is charged."""
        self.made_tokens = 0
        """By all attempts that are over."""
        self.cached_tokens = 0
        self.line: int | None = line
        """None: the ledger has lost it."""
        self._request = request
        self._tenant = tenant
        self._route = route
        self._reservation = reservation
        self._colleagues = colleagues
        self.forget()

    def forget(self) -> None:
        """Nothing of what was told has reached the reader."""
        self.told = [Told() for _ in range(len(self._request.prompts) * self._request.n)]

    def tell(self, deltas: list[Delta]) -> int:
        """The reader gets these; how many tokens they hold."""
        count = 0
        for delta in deltas:
            mine = self.told[delta.index]
            mine.token_ids += delta.token_ids
            mine.texts.append(delta.text)
            count += len(delta.token_ids)
            if delta.finish_reason is not None:
                mine.finished = True
        return count

    def prefix(self) -> Prefix:
        """Token ids of each choice."""
        return tuple([tuple(each.token_ids) for each in self.told])

    def usage(self) -> Usage:
        """As of now."""
        tokens = sum([len(each.token_ids) for each in self.told])
        return Usage(self.prompt_tokens if self.worked else 0, tokens, self.cached_tokens)

    def settle(self, outcome: str, why: str, rung: str, history: tuple[AttemptRecord, ...]) -> None:
        """Give back what was not used, close the line, and count."""
        usage = Usage(0, 0) if outcome == "refused" else self.usage()
        discarded = max(self.made_tokens - usage.completion_tokens, 0)
        used = None if outcome == "refused" else usage.prompt_tokens + usage.completion_tokens
        if used is not None and outcome == "gone":
            # Whoever leaves pays for what was made meanwhile: work that nobody waits for is not free.
            used = min(used + discarded, self._reservation.tokens)
        admission, ledger = self._colleagues.admission, self._colleagues.ledger
        # A good end may travel quietly: admission reads it before it decides again, and the ledger looks for it as long
        # as a line is open. The others are rare, and somebody may be waiting for what they free.
        quietly = outcome == "ok"
        (admission.put_quietly if quietly else admission.put_owed)(Settle(self._reservation, used))
        if self.line is not None:
            prompt, completion = usage.prompt_tokens, usage.completion_tokens
            closing = Closing(self.line, self._tenant, rung, outcome, why, prompt, completion, discarded)
            (ledger.put_quietly if quietly else ledger.put_owed)(Close(closing))
        self._count(RequestKey(self._route, rung, outcome, why), usage, discarded, history)

    def _count(self, key: RequestKey, usage: Usage, discarded: int, history: tuple[AttemptRecord, ...]) -> None:
        tally = self._colleagues.tally
        tally.requests[key] += 1
        tally.prompt_tokens += usage.prompt_tokens
        tally.completion_tokens += usage.completion_tokens
        tally.discarded_tokens += discarded
        tally.e2e.add(trio.current_time() - self._request.arrived_at)
        if key.outcome == "refused":
            tally.refusals[key.why] += 1
        if key.outcome == "overrun":
            tally.overruns += 1
        for note in history[:-1]:
            if note.outcome in {"failed", "refused"}:
                tally.fallbacks[key.route, note.rung, note.why] += 1
