"""From what the climb wants tried to an attempt: permitted, prepared for its kind of rung, or refused with a reason."""

import msgspec

from actors.account import Account
from actors.attempt import Attempt, TooLongHere, prepare
from actors.caller import Caller
from actors.colleagues import Colleagues
from actors.delivery import Delivery
from actors.embedding import prepare_inputs
from actors.errors import InvalidRequest, unsupported
from actors.messages import Delta, InferenceRequest
from actors.prompts import Prompts
from actors.shapes import Shapes
from actors.upstream.calls import NotExpressible, prepare_calls
from actors.verify import drafter_for
from engine.limits import Limits
from policies import climb
from policies.breaker import Permit
from policies.plan import Plan


class Launch(msgspec.Struct, frozen=True):
    """What one request's attempts are made of."""

    request: InferenceRequest
    plan: Plan
    caller: Caller
    prompts: Prompts
    shapes: Shapes
    account: Account
    delivery: Delivery
    colleagues: Colleagues

    async def attempt(self, effect: climb.Try) -> tuple[Attempt, list[Delta]] | climb.Refused:
        """The attempt, with what can be said before it begins; not offered to anybody yet."""
        permits = self.colleagues.permits
        permit = await permits.ask(effect.rung, is_retry=effect.is_retry)
        if isinstance(permit, climb.Refused):
            return permit
        limits = self.colleagues.boards[effect.rung].limits
        if limits is None:
            permits.record(effect.rung, permit, ok=None, is_retry=effect.is_retry)
            return climb.Refused(why="engine_loading", message=f"The engine {effect.rung} is being loaded.")
        if effect.adapter and effect.adapter not in self.colleagues.boards[effect.rung].adapters:
            permits.record(effect.rung, permit, ok=None, is_retry=effect.is_retry)
            return _without_adapter(effect.rung, effect.adapter)
        try:
            attempt, ended = await self._prepare(effect, permit, limits)
            drafted = effect.drafted and not self.request.params.prompt_only
            if drafted and self.plan.cascade is not None and attempt.work.sequences:
                attempt.drafter = await drafter_for(attempt.work, self.plan.cascade, self.prompts, self.colleagues)
        except (TooLongHere, NotExpressible, InvalidRequest) as error:
            permits.record(effect.rung, permit, ok=None, is_retry=effect.is_retry)
            return _not_taken_by(effect.rung, error)
        return attempt, ended

    async def _prepare(self, effect: climb.Try, permit: Permit, limits: Limits) -> tuple[Attempt, list[Delta]]:
        """Raises TooLongHere, NotExpressible and InvalidRequest."""
        colleagues = self.colleagues
        if self.request.embedding is not None:
            attempt = prepare_inputs(
                effect,
                permit,
                request=self.request,
                plan=self.plan,
                caller=self.caller,
                inputs=await self.prompts.read_by(effect.rung),
                limits=limits,
                delivery=self.delivery,
                numbers=colleagues.numbers,
            )
            return attempt, []
        text = colleagues.texts.get(effect.rung)
        upstream = colleagues.upstreams.get(effect.rung)
        if upstream is not None:
            return prepare_calls(
                effect,
                permit,
                request=self.request,
                plan=self.plan,
                caller=self.caller,
                lengths=await self.prompts.lengths(effect.rung, lenient=True),
                told=self.account.told,
                settings=upstream,
                tokenizer=text.tokenizer if text is not None else None,
                limits=limits,
                delivery=self.delivery,
                numbers=colleagues.numbers,
            )
        assert text is not None, "every engine has its text"
        for name in self.request.needs_upstream:
            raise InvalidRequest(unsupported(name), param=name, code="unsupported_parameter")
        return prepare(
            effect,
            permit,
            request=self.request,
            plan=self.plan,
            caller=self.caller,
            prompts=await self.prompts.read_by(effect.rung),
            told=self.account.told,
            text=text,
            shape=await self.shapes.for_engine(effect.rung),
            limits=limits,
            delivery=self.delivery,
            numbers=colleagues.numbers,
        )


def _not_taken_by(rung: str, error: TooLongHere | NotExpressible | InvalidRequest) -> climb.Refused:
    """Why this rung will never take the request."""
    match error:
        case TooLongHere():
            return climb.Refused(why="prompt_too_long", message=_too_long(rung), lasting=True)
        case NotExpressible():
            return climb.Refused(why="not_expressible", message=f"{rung} cannot be asked: {error}.", lasting=True)
        case InvalidRequest(body=body):
            return climb.Refused(why=body.code, message=body.message, lasting=True)


def _without_adapter(rung: str, adapter: str) -> climb.Refused:
    message = f"{rung} has no adapter '{adapter}' loaded."
    return climb.Refused(why="adapter_not_loaded", message=message, lasting=True)


def _too_long(rung: str) -> str:
    return f"Prompt and output do not fit into {rung}, which is to answer; shorten the prompt or lower max_tokens."
