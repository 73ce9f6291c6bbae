"""One log line for each request, however it ends: `request_finished`. No text of prompts or answers, and no key."""

from collections.abc import Callable

import structlog
import trio

from actors.api.errors import Refusal
from actors.api.request import InferenceRequest
from policies.model.plan import AttemptRecord
from policies.records.decision_log import DecisionEnd
from policies.records.decision_record import Timings

GONE_STATUS = 499
"""For a request whose client left: nginx's number; it is logged only."""
REQUEST_FINISHED = "request_finished"
_GONE = ("gone", "client_gone", GONE_STATUS)
_MODEL_CHARACTERS = 128
_PATH_CHARACTERS = 256
log = structlog.get_logger()


class LogIdentity:
    """Tenant and route of a request, and what would have refused it, filled in during admission."""

    __slots__ = ("attempts", "route", "tenant")

    def __init__(self, tenant: str = "", route: str = "") -> None:
        self.tenant = tenant
        self.route = route
        self.attempts: tuple[AttemptRecord, ...] = ()


class RequestLog:
    """Every line has the same fields; unknown ones are empty."""

    def __init__(self, enabled: Callable[[], bool], policy: Callable[[], str]) -> None:
        """`enabled`: called for every line, as a reload may change it. `policy`: the digest of the policy in force."""
        self._enabled = enabled
        self._policy = policy

    def ended(
        self, request: InferenceRequest, end: DecisionEnd, *, who: LogIdentity, policy: str, why: str, status: int
    ) -> None:
        """Log a request that was admitted."""
        if self._enabled():
            self._write(request, end, who, policy=policy, why=why, status=status)

    def counted(self, request: InferenceRequest, who: LogIdentity) -> None:
        """Log a request for the number of its tokens, of which none is billed."""
        if self._enabled():
            end = DecisionEnd(outcome="ok", code="", rung="", timings=total_timings(request.arrived_at))
            self._write(request, end, who, policy=self._policy(), why="counted", status=200)

    def not_let_in(self, request: InferenceRequest, who: LogIdentity, error: BaseException) -> None:
        """Log a request that was read, and refused or abandoned before it ran."""
        if self._enabled():
            outcome, code, status = _outcome(error)
            timings = total_timings(request.arrived_at)
            end = DecisionEnd(outcome=outcome, code=code, rung="", attempts=who.attempts, timings=timings)
            self._write(request, end, who, policy=self._policy(), why=code, status=status)

    def not_read(
        self,
        request_id: str,
        path: str,
        arrived_at: float | None,
        error: BaseException,
        *,
        tenant: str = "",
        gone: bool = False,
    ) -> None:
        """Log what the HTTP layer refused: an invalid body, a wrong method or origin. `gone`: the client left."""
        if self._enabled():
            outcome, code, status = _GONE if gone else _outcome(error)
            end = DecisionEnd(outcome=outcome, code=code, rung="", timings=total_timings(arrived_at))
            path = _shown(path, _PATH_CHARACTERS)
            policy = self._policy()
            _line(request_id, path, "", end, LogIdentity(tenant), policy=policy, why=code, status=status, streamed=None)

    def _write(
        self, request: InferenceRequest, end: DecisionEnd, who: LogIdentity, *, policy: str, why: str, status: int
    ) -> None:
        _line(
            request.request_id,
            request.credentials.path,
            _shown(request.body.model, _MODEL_CHARACTERS),
            end,
            who,
            policy=policy,
            why=why,
            status=status,
            streamed=request.body.streamed,
        )


def _line(
    request_id: str,
    path: str,
    model: str,
    end: DecisionEnd,
    who: LogIdentity,
    *,
    policy: str,
    why: str,
    status: int,
    streamed: bool | None,
) -> None:
    tokens, timings = end.tokens, end.timings
    log.info(
        REQUEST_FINISHED,
        request_id=request_id,
        path=path,
        tenant=who.tenant,
        model=model,
        policy=policy,
        route=who.route,
        rung=end.rung,
        rungs=list(map(_tried, end.attempts)),
        why=why,
        outcome=end.outcome,
        code=end.code,
        status=status,
        streamed=streamed,
        prompt_tokens=tokens.prompt,
        cached_tokens=tokens.cached,
        completion_tokens=tokens.completion,
        discarded_tokens=tokens.discarded,
        queue_s=_rounded(timings.started),
        ttft_s=_rounded(timings.ttft),
        total_s=_rounded(timings.total),
        cost=end.cost or 0.0,
    )


def _shown(name: str, max_characters: int) -> str:
    """A client's text, cut and without control characters."""
    name = name[:max_characters]
    return name if name.isprintable() else "".join([each if each.isprintable() else "?" for each in name])


def _tried(attempt: AttemptRecord) -> str:
    return f"{attempt.rung} {attempt.outcome} {attempt.why}"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def total_timings(arrived_at: float | None) -> Timings:
    """Of a request that ends now without an attempt; None: it is not known when it came."""
    return Timings(total=None if arrived_at is None else trio.current_time() - arrived_at)


def _outcome(error: BaseException) -> tuple[str, str, int]:
    """Outcome, code and status. A cancellation means that the client left."""
    if isinstance(error, Refusal):
        return "refused", error.body.code, error.body.status
    if isinstance(error, trio.Cancelled) or not isinstance(error, Exception):
        return _GONE
    return "failed", "internal_error", 500
