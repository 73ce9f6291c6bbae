"""The account of one answer: what was emitted to its reader, what that costs, and its one settlement."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import structlog

from actors.api.extra_fields import Fields, added
from actors.api.request import InferenceRequest, RequestContent
from actors.api.response import CascadeTrace, Delta, ResponseEvent, ServerTimings, Usage
from actors.api.statistics import RequestKey, ServiceCounters
from actors.protocol.admission import Settle
from actors.protocol.job import Job
from actors.protocol.ledger import CloseEntry, Delivered, EntryClosing, WriteRollBack
from actors.recording.recorder import RecordedRequest
from actors.request.ports import RequestPorts
from actors.request.request_log import LogIdentity
from actors.routing.router import PolicySnapshot
from config.model.tenancy import TokenQuota
from engine.messages import Submit
from engine.text.tokenizer import Tokenizer
from policies.admission.budget import Grant
from policies.admission.prices import cost_of
from policies.fallback.fallback_machine import Prefix
from policies.model.plan import AttemptRecord
from policies.records.decision_log import DecisionEnd, LoggedDecision, with_bounded_messages
from policies.records.decision_record import Timings, TokenCounts
from policies.rollout.experiment import unit_of
from policies.rollout.rollout_state import AnswerResult
from policies.routing.planner import Planned

log = structlog.get_logger()


class EmittedChoice:
    """What was handed to the reader of one choice."""

    __slots__ = ("about_usage", "calls", "finished", "reasoning", "reasoning_tokens", "texts", "token_ids", "unnamed")

    def __init__(self) -> None:
        self.token_ids: list[int] = []
        self.texts: list[str] = []
        self.reasoning: list[str] = []
        """That of engines, whose tokens are among `token_ids`."""
        self.reasoning_tokens = 0
        self.calls = 0
        """Tool calls, which the texts do not hold."""
        self.unnamed = 0
        """Tokens beside `token_ids` whose ids are not known."""
        self.finished = False
        self.about_usage: Fields = {}
        """What an upstream says of its usage beside the counts."""

    @property
    def tokens(self) -> int:
        return len(self.token_ids) + self.unnamed

    def ids(self, tokenizer: Tokenizer | None) -> tuple[int, ...]:
        """Token ids of all that was emitted; (): they are not known. From text, they replace the count of `unnamed`."""
        if not self.unnamed:
            return tuple(self.token_ids)
        if tokenizer is None or self.calls:
            return ()
        text = "".join(self.texts)
        ids = tokenizer.encode(text, add_special_tokens=False)
        if tokenizer.decode(ids) != text:
            return ()
        self.unnamed = len(ids) - len(self.token_ids)
        return tuple(ids)


class Account:
    """One request in progress: its plan, what was emitted of its answer, and what that costs.

    Kept by the answer's own task. `settle` is called exactly once, however the answer ends.
    """

    def __init__(
        self,
        request: InferenceRequest,
        decided: Planned,
        *,
        snapshot: PolicySnapshot,
        grant: Grant,
        entry_id: int,
        decision: LoggedDecision,
        ports: RequestPorts,
    ) -> None:
        """`entry_id`: the ledger's entry; `decision`: in the log of decisions; its end is set by `settle`."""
        self.request = request
        self.content = RequestContent(request)
        self.plan = plan = decided.plan
        self.features = features = decided.features
        self.snapshot = snapshot
        self.ports = ports
        self.prompt_tokens = decided.prompt_tokens
        self.reasoning_cap, self.reasoning_capped_by = _reasoning_cap(request.body.reasoning_tokens, plan.reasoning_cap)
        self.emitted: list[EmittedChoice] = []
        self.worked = False
        """An engine has begun to work on it, so that its prompt is charged."""
        self.made_tokens = 0
        """By all attempts that have ended."""
        self.cached_tokens = 0
        self.truncated = False
        self.entry_id: int | None = entry_id
        """None: the ledger lost it in a crash."""
        self.first_at: float | None = None
        """When the first content was sent."""
        self.first_content_at: float | None = None
        """When the first content was there, streamed or not."""
        self.cost = 0.0
        """Money, of all attempts that have ended."""
        self.taken_at: float | None = None
        """When the first backend started a job of it."""
        self.margin: float | None = None
        """The cascade's statistic of the last attempt that had one."""
        self.judged: float | None = None
        """How much the cascade's judge held the small answer to be good; None: none has judged it."""
        self.cascade_trace: CascadeTrace | None = None
        """Of the same attempt, if the client asks for it."""
        self.adapter = ""
        """Of the last attempt, as NAME@VERSION if it came to its end."""
        self.degraded: tuple[str, ...] = ()
        """See `policies.model.plan.Degraded`."""
        self.downgraded_to = features.tier if features.downgraded_from else None
        """The tier, if a spent budget has moved it there."""
        self.on_settled: Callable[[str], None] | None = None
        """Called with the outcome, while the emitted choices are still known."""
        self.prompt: tuple[int, ...] = ()
        self.margins: tuple[float, ...] = ()
        """For a recording: see `RecordedRequest`."""
        self._decision = decision
        self._who = LogIdentity(features.tenant, plan.route)
        self._grant = grant
        self._price_share = features.requirements.price_share
        self._held = ports.rollout.on_start(plan, features.at, grant.hold.amount)
        self.forget()
        self._before: Usage | None = None
        """What an ended process has delivered of the answer, and charged together with the prompt; None: nothing."""
        if request.begun is not None and request.begun.events:
            self._take_over(request.begun.events)

    def _take_over(self, events: Sequence[ResponseEvent]) -> None:
        """What the client has of an answer that an ended process has begun, and has paid for."""
        self.emit([event for event in events if isinstance(event, Delta)])
        self._before = self.usage()
        self.worked = True

    def observe(self, job: Job, margins: list[float]) -> None:
        """For the recording: the token ids of the first attempt's prompt, and the small model's margins."""
        first = job.sequences[0] if job.sequences else None
        if isinstance(first, Submit) and not self.prompt:
            self.prompt = first.prompt_token_ids
        self.margins = self.margins or tuple(margins)

    def forget(self) -> None:
        """Nothing that was emitted has reached the reader."""
        self.emitted = [EmittedChoice() for _ in range(len(self.request.body.prompts) * self.request.body.n)]
        self.first_content_at = None

    def emit(self, deltas: list[Delta]) -> int:
        """Note what is handed to the reader. Returns its number of tokens."""
        count = 0
        for delta in deltas:
            mine = self.emitted[delta.index]
            mine.token_ids += delta.token_ids
            mine.unnamed += delta.unnamed
            mine.texts.append(delta.text)
            if delta.reasoning and delta.token_ids:
                mine.reasoning.append(delta.reasoning)
            mine.reasoning_tokens += delta.reasoning_tokens
            mine.calls += len(delta.calls)
            if delta.extras is not None and delta.extras.usage:
                mine.about_usage = delta.extras.usage
            count += len(delta.token_ids) + delta.unnamed
            if delta.finish_reason is not None:
                mine.finished = True
                self.truncated = self.truncated or delta.finish_reason == "length"
        return count

    def once(self, tokens: Mapping[int, int]) -> int:
        """The sum of prompt tokens given by choice, with each prompt counted once whatever `n` is."""
        if len(self.emitted) == 1:
            return tokens.get(0, 0)
        return sum([tokens.get(index, 0) for index in range(0, len(self.emitted), self.request.body.n)])

    def pay(self, rung: str, prompt_tokens: int, cached_tokens: int, made_tokens: int) -> None:
        """Charge a successful attempt. Failed attempts are not billed. `cached_tokens`: prefix-cache hits."""
        price = self.snapshot.policy.prices.get(rung)
        if self._before is not None:
            prompt_tokens = 0
        cost = cost_of(price, prompt_tokens, made_tokens, min(cached_tokens, prompt_tokens))
        self.cost += cost * self._price_share

    def delivered(self, rung: str, *, ended: bool) -> Delivered:
        """What this process has delivered, and what that costs; `rung`: of the attempt that may still run."""
        usage = self._charged(self.usage())
        cost = self.cost
        if not ended:
            price = self.snapshot.policy.prices.get(rung)
            cost += cost_of(price, usage.prompt_tokens, usage.completion_tokens) * self._price_share
        return Delivered(usage.prompt_tokens, usage.completion_tokens, min(cost, self._grant.hold.amount))

    def _charged(self, usage: Usage) -> Usage:
        """Without what an ended process has charged."""
        before = self._before
        if before is None:
            return usage
        completion_tokens = max(usage.completion_tokens - before.completion_tokens, 0)
        reasoning_tokens = max(usage.reasoning_tokens - before.reasoning_tokens, 0)
        return Usage(0, completion_tokens, usage.cached_tokens, reasoning_tokens)

    def prefix(self, tokenizer: Tokenizer | None) -> Prefix:
        """Token ids of each choice, from which another rung can continue; empty if those of some choice are not known.

        Text of an upstream has no ids. With its `tokenizer` they are those of the text, if they decode to exactly that
        text; then its tokens are counted by them, too.
        """
        prefix = tuple([choice.ids(tokenizer) for choice in self.emitted])
        known = all(ids or not choice.tokens for ids, choice in zip(prefix, self.emitted, strict=True))
        return prefix if known else ()

    def usage(self) -> Usage:
        tokens = reasoning = 0
        for each in self.emitted:
            tokens += len(each.token_ids) + each.unnamed
            reasoning += each.reasoning_tokens
        about = added([each.about_usage for each in self.emitted], self.request.body.n)
        return Usage(self.prompt_tokens if self.worked else 0, tokens, self.cached_tokens, reasoning, about)

    def timings(self, now: float) -> ServerTimings:
        """Of an answer that ends now."""
        arrived_at, taken_at, content_at = self.request.arrived_at, self.taken_at, self.first_content_at
        return ServerTimings(
            queue_ms=_milliseconds(arrived_at, taken_at),
            prefill_ms=_milliseconds(taken_at, content_at),
            decode_ms=_milliseconds(content_at, now),
        )

    def settle(self, outcome: str, why: str, rung: str, history: tuple[AttemptRecord, ...], status: int) -> None:
        """Settle the reservation, close the ledger's entry, count and log. `status`: the client's HTTP status."""
        refused = outcome == "refused"
        usage = Usage(0, 0) if refused else self._charged(self.usage())
        discarded = max(self.made_tokens - usage.completion_tokens, 0)
        cost = 0.0 if refused else self.cost
        used = usage.prompt_tokens + usage.completion_tokens
        if outcome == "gone":
            # A client that leaves is charged for the tokens generated until then.
            used = min(used + discarded, self._grant.reservation.tokens)
        admission, ledger = self.ports.admission, self.ports.ledger
        # After a complete answer neither actor is woken: admission reads the message before its next decision, and the
        # ledger polls while entries are open. Other ends are rare, and a request may wait for what they free. What
        # remains of a budget or a token quota is published, and must be current on an idle server, too.
        deferred = outcome == "ok"
        settings = self.snapshot.tenants.get(self.features.tenant)
        published = settings is not None and (settings.budget is not None or settings.tokens != TokenQuota())
        send = admission.put_deferred if deferred and not published else admission.put_unbounded
        send(Settle(self._grant, None if refused else used, cost))
        if self.entry_id is not None:
            prompt, completion = usage.prompt_tokens, usage.completion_tokens
            closing = EntryClosing(
                self.entry_id,
                self.features.tenant,
                rung,
                outcome,
                why,
                prompt,
                completion,
                discarded,
                cost,
                self.degraded,
            )
            (ledger.put_deferred if deferred else ledger.put_unbounded)(CloseEntry(closing))
        total_s = self.ports.clock() - self.request.arrived_at
        self._count(RequestKey(self.plan.route, rung, outcome, why), usage, discarded, history, total_s)
        self._learn(rung, outcome, usage, cost, history)
        end = self._decision.end = DecisionEnd(
            outcome=outcome,
            code=why if outcome != "ok" else "",
            rung=rung if outcome == "ok" else "",
            adapter=self.adapter if outcome == "ok" else "",
            attempts=with_bounded_messages(history),
            statistic=self.margin,
            degraded=self.degraded,
            cost=cost,
            tokens=TokenCounts(
                prompt=usage.prompt_tokens,
                cached=usage.cached_tokens,
                completion=usage.completion_tokens,
                discarded=discarded,
            ),
            timings=Timings(
                started=self._since_arrival(self.taken_at),
                ttft=self._since_arrival(self.first_at),
                total=total_s,
            ),
        )

        self.ports.request_log.ended(self.request, end, who=self._who, policy=self.plan.policy, why=why, status=status)
        on_settled, self.on_settled = self.on_settled, None
        if on_settled is not None:
            on_settled(outcome)
        recording = self.ports.recording
        if recording is not None and self.request.body.embedding is None and self.request.batch is None:
            recording.note(
                RecordedRequest(
                    self.features,
                    self.request.arrived_at,
                    rung=rung if outcome == "ok" else "",
                    output_tokens=max([each.tokens for each in self.emitted]),
                    prompt=self.prompt,
                    cache_salt=self.request.body.cache_salt,
                    margins=self.margins,
                    ttft_s=self._since_arrival(self.first_at),
                )
            )

    def _since_arrival(self, at: float | None) -> float | None:
        return None if at is None else at - self.request.arrived_at

    def _count(
        self, key: RequestKey, usage: Usage, discarded: int, history: tuple[AttemptRecord, ...], total_s: float
    ) -> None:
        counters = self.ports.counters
        count_request(counters, key, history, None if self.request.batch is not None else total_s)
        counters.prompt_tokens += usage.prompt_tokens
        counters.completion_tokens += usage.completion_tokens
        counters.reasoning_tokens += usage.reasoning_tokens
        counters.discarded_tokens += discarded
        if key.outcome == "refused":
            counters.refusals[key.why] += 1
        if key.outcome == "overrun":
            counters.overruns += 1

    def _learn(self, rung: str, outcome: str, usage: Usage, cost: float, history: tuple[AttemptRecord, ...]) -> None:
        """Report the result to experiments, cascade targets and budgets."""
        plan, features = self.plan, self.features
        if plan.cascade is None and not plan.experiment:
            return
        experiment = next((e for e in self.snapshot.settings.experiments if e.name == plan.experiment), None)
        arrived = self.request.arrived_at
        ending = AnswerResult(
            at=features.at,
            outcome=outcome,
            rung=rung,
            escalated=plan.cascade is not None and rung == plan.cascade.large.to,
            fell_back=any(note.outcome in {"failed", "refused"} for note in history[:-1]),
            truncated=self.truncated,
            ttft_s=None if self.first_content_at is None else self.first_content_at - arrived,
            slo_ttft_s=float("inf")
            if self.request.batch is not None
            else float(self.snapshot.settings.tiers[features.tier].slo.ttft),
            unit=unit_of(features, experiment.unit) if experiment is not None else "",
            cost=cost,
            held=self._held,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
        )
        for notice in self.ports.rollout.on_end(plan, ending):
            self.ports.counters.notices[notice.event, notice.subject] += 1
            log.warning(notice.event, subject=notice.subject, **notice.details)
        for roll_back in self.ports.rollout.take_roll_backs():
            self.ports.ledger.put_unbounded(WriteRollBack(roll_back))


def count_request(
    counters: ServiceCounters, key: RequestKey, history: tuple[AttemptRecord, ...], total_s: float | None
) -> None:
    """Count a request that was planned, once it has ended; `total_s`: None does not count its time."""
    counters.requests[key] += 1
    if total_s is not None:
        counters.e2e.add(total_s)
    for note in history[:-1]:
        if note.outcome in {"failed", "refused"}:
            counters.fallbacks[key.route, note.rung, note.why] += 1


def _reasoning_cap(asked: int | None, route: int | None) -> tuple[int | None, Literal["request", "route"]]:
    """The most tokens of a choice's reasoning, and who says so."""
    if asked is not None and (route is None or asked <= route):
        return asked, "request"
    return route, "route"


def _milliseconds(begin: float | None, end: float | None) -> float | None:
    return None if begin is None or end is None else round(1000 * max(end - begin, 0.0), 1)
