"""From what the climb wants tried to an attempt: permitted, prepared for its kind of rung, or refused with a reason."""

import msgspec

from actors.api.errors import InvalidRequest, unsupported
from actors.api.principal import Principal
from actors.api.request import InferenceRequest
from actors.api.response import Delta
from actors.prompt.output_constraints import ConstraintsByModel
from actors.prompt.prompt_encoder import PromptEncoder
from actors.protocol.delivery import Delivery
from actors.request.account import Account
from actors.request.attempt import Attempt, TooLongHere, prepare
from actors.request.draft_verification import drafter_for
from actors.request.embedding_attempt import prepare_inputs
from actors.request.ports import RequestPorts
from actors.request.upstream_attempt import NotExpressible, prepare_calls
from engine.core.limits import EngineLimits
from policies.fallback import fallback_machine
from policies.model.breaker_view import Permit
from policies.model.plan import Plan


class AttemptFactory(msgspec.Struct, frozen=True):
    """What one request's attempts are made of."""

    request: InferenceRequest
    plan: Plan
    principal: Principal
    prompts: PromptEncoder
    shapes: ConstraintsByModel
    account: Account
    delivery: Delivery
    ports: RequestPorts

    async def attempt(self, effect: fallback_machine.Try) -> tuple[Attempt, list[Delta]] | fallback_machine.RungRefused:
        """The attempt, with what can be said before it begins; not offered to anybody yet."""
        permits = self.ports.permits
        permit = await permits.ask(effect.rung, is_retry=effect.is_retry)
        if isinstance(permit, fallback_machine.RungRefused):
            return permit
        limits = self.ports.all_published[effect.rung].limits
        if limits is None:
            permits.record(effect.rung, permit, ok=None, is_retry=effect.is_retry)
            return fallback_machine.RungRefused(
                why="engine_loading", message=f"The engine {effect.rung} is being loaded."
            )
        if effect.adapter and effect.adapter not in self.ports.all_published[effect.rung].adapters:
            permits.record(effect.rung, permit, ok=None, is_retry=effect.is_retry)
            return _without_adapter(effect.rung, effect.adapter)
        try:
            attempt, ended = await self._prepare(effect, permit, limits)
            drafted = effect.drafted and not self.request.body.params.prompt_only
            if drafted and self.plan.cascade is not None and attempt.job.sequences:
                attempt.drafter = await drafter_for(attempt.job, self.plan.cascade, self.prompts, self.ports)
        except (TooLongHere, NotExpressible, InvalidRequest) as error:
            permits.record(effect.rung, permit, ok=None, is_retry=effect.is_retry)
            return _not_taken_by(effect.rung, error)
        return attempt, ended

    async def _prepare(
        self, effect: fallback_machine.Try, permit: Permit, limits: EngineLimits
    ) -> tuple[Attempt, list[Delta]]:
        """Raises TooLongHere, NotExpressible and InvalidRequest."""
        ports = self.ports
        if self.request.body.embedding is not None:
            attempt = prepare_inputs(
                effect,
                permit,
                request=self.request,
                plan=self.plan,
                principal=self.principal,
                inputs=await self.prompts.read_by(effect.rung),
                limits=limits,
                delivery=self.delivery,
                numbers=ports.numbers,
            )
            return attempt, []
        text = ports.texts.get(effect.rung)
        upstream = ports.upstreams.get(effect.rung)
        if upstream is not None:
            return prepare_calls(
                effect,
                permit,
                request=self.request,
                plan=self.plan,
                principal=self.principal,
                lengths=await self.prompts.lengths(effect.rung, lenient=True),
                told=self.account.told,
                settings=upstream,
                tokenizer=text.tokenizer if text is not None else None,
                limits=limits,
                delivery=self.delivery,
                numbers=ports.numbers,
            )
        assert text is not None, "every engine has its text"
        for name in self.request.body.needs_upstream:
            raise InvalidRequest(unsupported(name), param=name, code="unsupported_parameter")
        return prepare(
            effect,
            permit,
            request=self.request,
            plan=self.plan,
            principal=self.principal,
            prompts=await self.prompts.read_by(effect.rung),
            told=self.account.told,
            text=text,
            shape=await self.shapes.for_engine(effect.rung),
            limits=limits,
            delivery=self.delivery,
            numbers=ports.numbers,
        )


def _not_taken_by(rung: str, error: TooLongHere | NotExpressible | InvalidRequest) -> fallback_machine.RungRefused:
    """Why this rung will never take the request."""
    match error:
        case TooLongHere():
            return fallback_machine.RungRefused(why="prompt_too_long", message=_too_long(rung), lasting=True)
        case NotExpressible():
            return fallback_machine.RungRefused(
                why="not_expressible", message=f"{rung} cannot be asked: {error}.", lasting=True
            )
        case InvalidRequest(body=body):
            return fallback_machine.RungRefused(why=body.code, message=body.message, lasting=True)


def _without_adapter(rung: str, adapter: str) -> fallback_machine.RungRefused:
    message = f"{rung} has no adapter '{adapter}' loaded."
    return fallback_machine.RungRefused(why="adapter_not_loaded", message=message, lasting=True)


def _too_long(rung: str) -> str:
    return f"Prompt and output do not fit into {rung}, which is to answer; shorten the prompt or lower max_tokens."
