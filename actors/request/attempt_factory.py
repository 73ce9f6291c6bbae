"""From what the answer machine wants tried to an attempt, prepared for its kind of rung, or refused with a reason."""

import msgspec

from actors.api.errors import InvalidRequest, unsupported
from actors.api.request import InferenceRequest, Principal
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
from policies.answer.answer_effects import MachineAttempt
from policies.fallback.fallback_machine import RungRefused
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

    async def attempt(self, of: MachineAttempt) -> tuple[Attempt, list[Delta]] | RungRefused:
        """The attempt, with what can be said before it begins; not offered to anybody yet."""
        rung, adapter = of.rung, of.wanted.adapter
        published = self.ports.all_published[rung]
        limits = published.limits
        if limits is None:
            return RungRefused(why="engine_loading", message=f"The engine {rung} is being loaded.")
        if adapter and adapter not in published.adapters:
            message = f"{rung} has no adapter '{adapter}' loaded."
            return RungRefused(why="adapter_not_loaded", message=message, lasting=True)
        try:
            attempt, ended = await self._prepare(of, limits)
            drafted = of.wanted.drafted and not self.request.body.params.prompt_only
            if drafted and self.plan.cascade is not None and attempt.job.sequences:
                attempt.drafter = await drafter_for(attempt.job, self.plan.cascade, self.prompts, self.ports)
        except (TooLongHere, NotExpressible, InvalidRequest) as error:
            return _not_taken_by(rung, error)
        return attempt, ended

    async def _prepare(self, of: MachineAttempt, limits: EngineLimits) -> tuple[Attempt, list[Delta]]:
        """Raises TooLongHere, NotExpressible and InvalidRequest."""
        ports = self.ports
        if self.request.body.embedding is not None:
            attempt = prepare_inputs(
                of,
                request=self.request,
                plan=self.plan,
                principal=self.principal,
                inputs=await self.prompts.read_by(of.rung),
                limits=limits,
                delivery=self.delivery,
                numbers=ports.numbers,
            )
            return attempt, []
        text = ports.texts.get(of.rung)
        upstream = ports.upstreams.get(of.rung)
        if upstream is not None:
            return prepare_calls(
                of,
                request=self.request,
                plan=self.plan,
                principal=self.principal,
                lengths=await self.prompts.lengths(of.rung, lenient=True),
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
            of,
            request=self.request,
            plan=self.plan,
            principal=self.principal,
            prompts=await self.prompts.read_by(of.rung),
            told=self.account.told,
            text=text,
            shape=await self.shapes.for_engine(of.rung),
            limits=limits,
            delivery=self.delivery,
            numbers=ports.numbers,
        )


def _not_taken_by(rung: str, error: TooLongHere | NotExpressible | InvalidRequest) -> RungRefused:
    """Why this rung will never take the request."""
    match error:
        case TooLongHere():
            return RungRefused(why="prompt_too_long", message=_too_long(rung), lasting=True)
        case NotExpressible():
            return RungRefused(why="not_expressible", message=f"{rung} cannot be asked: {error}.", lasting=True)
        case InvalidRequest(body=body):
            return RungRefused(why=body.code, message=body.message, lasting=True)


def _too_long(rung: str) -> str:
    return f"Prompt and output do not fit into {rung}, which is to answer; shorten the prompt or lower max_tokens."
