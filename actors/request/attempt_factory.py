"""Prepares the attempt that the answer machine names, for an engine, an encoder or an upstream."""

from collections.abc import Sequence

import msgspec

from actors.api.errors import InvalidRequest
from actors.api.request import ChatPrompt, Principal, Prompt, TokenPrompt
from actors.api.response import Delta
from actors.prompt.continuation import ContinuationDetokenizer, params_after
from actors.prompt.model_text import ModelText, TokenIds
from actors.prompt.reasoning_reader import ReasoningReader
from actors.prompt.request_text import OutputConstraints, RequestText
from actors.prompt.tool_call_reader import ToolCallReader
from actors.protocol.delivery import Delivery
from actors.protocol.job import Job, UpstreamCall
from actors.request.account import Account
from actors.request.attempt import Attempt, OutputAssembly
from actors.request.cascade_tracer import CascadeTracer
from actors.request.draft_verification import drafter_for
from actors.upstream.conversation_marks import conversation_marks
from actors.upstream.request_body import unsupported_reason
from config.model.upstreams import UpstreamSettings
from engine.core.limits import EngineLimits
from engine.messages import Embed, Submit, Weigh
from engine.sampling.params import SamplingParams
from engine.text.reasoning_cap import ReasoningCap
from engine.text.tokenizer import Tokenizer
from policies.answer.answer_effects import MachineAttempt
from policies.errors import unsupported
from policies.fallback.fallback_machine import RungRefused
from policies.model.backends import UNBOUNDED, UNLIMITED_OUTPUT_TOKENS
from policies.routing.token_budget import tokens_at


class _TooLong(Exception):  # noqa: N818  (a fact about a rung)
    """Prompt and output do not fit into this rung."""


class _NotExpressible(Exception):  # noqa: N818  (a fact about a rung)
    """The upstream's API cannot express the request."""


class AttemptFactory(msgspec.Struct, frozen=True):
    """One for each request."""

    account: Account
    principal: Principal
    text: RequestText
    delivery: Delivery

    async def attempt(self, of: MachineAttempt) -> tuple[Attempt, list[Delta]] | RungRefused:
        """The attempt, not enqueued yet, and ends of choices that the client has not received."""
        rung, adapter, account = of.rung, of.wanted.adapter, self.account
        published = account.ports.all_published[rung]
        limits = published.limits
        if limits is None:
            return RungRefused(why="engine_loading", message=f"The engine {rung} is being loaded.")
        # An engine that is being restarted will have its adapters again; without them it refuses the sequence.
        if adapter and adapter not in published.adapters and not of.wanted.waits_for_restart:
            message = f"{rung} has no adapter '{adapter}' loaded."
            return RungRefused(why="adapter_not_loaded", message=message, lasting=True)
        try:
            attempt, ended = await self._prepare(of, limits)
            cascade = account.plan.cascade
            drafted = of.wanted.drafted and not account.request.body.params.prompt_only
            if drafted and cascade is not None and attempt.job.sequences:
                attempt.drafter = await drafter_for(attempt.job, cascade, self.text, account.ports)
        except _TooLong:
            message = (
                f"The prompt and max_tokens together are too long for {rung}, the model that would answer. "
                "Shorten the prompt or lower max_tokens."
            )
            return RungRefused(why="prompt_too_long", message=message, lasting=True)
        except _NotExpressible as error:
            return RungRefused(
                why="not_expressible", message=f"{rung} cannot serve this request: {error}.", lasting=True
            )
        except InvalidRequest as error:
            return RungRefused(why=error.body.code, message=error.body.message, lasting=True)
        return attempt, ended

    async def _prepare(self, of: MachineAttempt, limits: EngineLimits) -> tuple[Attempt, list[Delta]]:
        """Raises _TooLong, _NotExpressible and InvalidRequest."""
        rung, body, ports = of.rung, self.account.request.body, self.account.ports
        if body.embedding is not None:
            inputs = await self.text.read_by(rung)
            made = self._weighings(of, inputs) if body.weighed else self._embeddings(inputs, self.text.seconds(rung))
            return self._for_vectors(of, inputs, made, limits), []
        text, upstream = ports.texts.get(rung), ports.upstreams.get(rung)
        if upstream is not None:
            lengths = await self.text.lengths(rung, lenient=True)
            return self._for_upstream(of, lengths, upstream, text.tokenizer if text is not None else None, limits)
        assert text is not None, "every engine has its text"
        for name in body.needs_upstream:
            raise InvalidRequest(unsupported(name), param=name, code="unsupported_parameter")
        if body.effort and not text.knows_effort:
            raise InvalidRequest(unsupported(body.effort_field), param=body.effort_field, code="unsupported_parameter")
        return self._for_engine(of, await self.text.read_by(rung), text, await self.text.constraints(rung), limits)

    def _for_engine(
        self,
        of: MachineAttempt,
        prompts: Sequence[TokenIds],
        text: ModelText,
        constraints: OutputConstraints,
        limits: EngineLimits,
    ) -> tuple[Attempt, list[Delta]]:
        """Raises _TooLong."""
        request, principal, numbers = self.account.request, self.principal, self.account.ports.numbers
        body, salt = request.body, principal.salt_of(request.body)
        sequences: list[Submit] = []
        choices: dict[int, int] = {}
        continuations: dict[int, ContinuationDetokenizer] = {}
        readers: dict[int, ToolCallReader] = {}
        thinking: dict[int, ReasoningReader] = {}
        ended: list[Delta] = []
        for index, emitted in enumerate(self.account.emitted):
            if emitted.finished:
                continue
            prompt = prompts[index // body.n]
            params = self._params(index % body.n, len(prompt), limits, drawn=request.seed)
            prefix = of.wanted.prefix[index] if of.wanted.prefix else ()
            reader: ToolCallReader | None = None
            if constraints.style is not None and body.tools is not None:
                id_prefix = f"call_{request.request_id}_{index}_"
                reader = ToolCallReader(constraints.style, body.tools.names, id_prefix=id_prefix)
            cap = self._reasoning_cap(index, prompt, text)
            thought = self._reasoning_reader(index, prompt, text, params, cap)
            if prefix:
                shown, exact = "".join(emitted.texts), constraints.grammar is not None
                continuation = ContinuationDetokenizer(
                    params,
                    text.tokenizer,
                    prompt,
                    prefix,
                    shown if reader is None and thought is None else None,
                    exact=exact,
                )
                written = continuation.written
                if thought is not None:
                    written = thought.replay(
                        written,
                        prefix,
                        reasoning="".join(emitted.reasoning),
                        content=shown if reader is None else None,
                        reported=emitted.reasoning_tokens,
                    )
                if reader is not None:
                    reader.replay(written, shown)
                if continuation.ended:
                    rest, reason, stop = continuation.rest()
                    end = Delta(index, rest, (), (), reason, stop)
                    end = end if thought is None else thought.read(end)
                    ended.append(end if reader is None else reader.read(end))
                    continue
                continuations[index] = continuation
                prompt += prefix
                params = params_after(params, len(prefix))
            if reader is not None:
                readers[index] = reader
            if thought is not None:
                thinking[index] = thought
            number = next(numbers)
            choices[number] = index
            sequences.append(
                Submit(
                    sequence_id=number,
                    prompt_token_ids=prompt,
                    params=params,
                    priority=principal.priority,
                    best_effort=request.batch is not None,
                    output_prefix=len(prefix),
                    cache_salt=salt,
                    grammar=constraints.grammar,
                    adapter=of.wanted.adapter,
                    reasoning_cap=cap,
                )
            )
        prompt_tokens = sum([len(each.prompt_token_ids) for each in sequences])
        tokens = prompt_tokens + sum([each.params.max_tokens for each in sequences])
        job = self._job(of, tuple(sequences), prompt_tokens, tokens, goes_on=any(of.wanted.prefix))
        tracer = self._tracer(of, len(self.account.emitted))
        assembly = OutputAssembly(choices, of.cascade, continuations, readers, thinking=thinking, tracer=tracer)
        return Attempt(of, job, assembly, whole_in_engine=not continuations), ended

    def _tracer(self, of: MachineAttempt, choices: int) -> CascadeTracer | None:
        """None: there is nothing to note, or no client asks for it."""
        cascade = self.account.plan.cascade
        if of.cascade is None or cascade is None or not self.account.request.body.view.explain:
            return None
        return CascadeTracer(cascade, of.cascade.mode, choices)

    def _is_content(self, index: int) -> bool:
        """All of the choice's text is content, whatever model writes it."""
        body, emitted = self.account.request.body, self.account.emitted[index]
        is_chat = isinstance(body.prompts[index // body.n], ChatPrompt)
        # After an upstream's text, in which its reasoning is not, content follows.
        return body.bound_to is not None or not is_chat or bool(emitted.unnamed)

    def _opened(self, index: int, prompt: TokenIds, text: ModelText) -> bool:
        """Whether the choice begins inside of its reasoning."""
        return bool(self.account.emitted[index].reasoning) or text.opens_reasoning(prompt)

    def _reasoning_cap(self, index: int, prompt: TokenIds, text: ModelText) -> ReasoningCap | None:
        tokens = self.account.reasoning_cap
        if tokens is None or text.reasoning is None or self._is_content(index):
            return None
        return ReasoningCap(tokens, text.reasoning, text.closing, self._opened(index, prompt, text))

    def _reasoning_reader(
        self, index: int, prompt: TokenIds, text: ModelText, params: SamplingParams, cap: ReasoningCap | None
    ) -> ReasoningReader | None:
        """None: all of the choice's text is content. Raises InvalidRequest."""
        if self._is_content(index):
            return None
        if text.reasoning is None:
            if self.account.emitted[index].reasoning:
                message = "The answer has begun with reasoning, which this model does not write."
                raise InvalidRequest(message, param="model", code="cannot_continue")
            return None
        detokenizer = text.tokenizer.detokenizer(prompt, skip_special=params.skip_special_tokens)
        opened, forced_from = self._opened(index, prompt, text), None if cap is None else cap.forced_from
        return ReasoningReader(text.reasoning, detokenizer, opened=opened, forced_from=forced_from)

    def _for_vectors(
        self,
        of: MachineAttempt,
        inputs: Sequence[TokenIds],
        sequences: tuple[Embed | Weigh, ...],
        limits: EngineLimits,
    ) -> Attempt:
        """All inputs at once: nothing of an earlier attempt is kept. Raises _TooLong."""
        if max(map(len, inputs)) > limits.max_model_len:
            raise _TooLong
        tokens = sum(map(len, inputs))
        job = self._job(of, sequences, tokens, tokens, goes_on=False)
        choices = {each.sequence_id: index for index, each in enumerate(job.sequences)}
        return Attempt(of, job, OutputAssembly(choices), whole_in_engine=True)

    def _embeddings(self, inputs: Sequence[TokenIds], seconds: Sequence[int | None]) -> tuple[Embed, ...]:
        numbers, wanted = self.account.ports.numbers, self.account.request.body.embedding
        assert wanted is not None
        return tuple(
            [
                Embed(
                    sequence_id=next(numbers),
                    token_ids=token_ids,
                    priority=self.principal.priority,
                    best_effort=self.account.request.batch is not None,
                    size=wanted.size,
                    second=second,
                )
                for token_ids, second in zip(inputs, seconds, strict=True)
            ]
        )

    def _weighings(self, of: MachineAttempt, inputs: Sequence[TokenIds]) -> tuple[Weigh, ...]:
        answers = self.text.answers(of.rung)
        return tuple(
            [
                Weigh(
                    sequence_id=next(self.account.ports.numbers),
                    prompt_token_ids=token_ids,
                    answers=answers,
                    priority=self.principal.priority,
                    cache_salt=self.principal.salt_of(self.account.request.body),
                    adapter=of.wanted.adapter,
                )
                for token_ids in inputs
            ]
        )

    def _for_upstream(
        self,
        of: MachineAttempt,
        lengths: Sequence[int],
        settings: UpstreamSettings,
        tokenizer: Tokenizer | None,
        limits: EngineLimits,
    ) -> tuple[Attempt, list[Delta]]:
        """`lengths`: tokens of each prompt, as far as known; `tokenizer`: the one that it shares with an engine.

        Raises _TooLong and _NotExpressible.
        """
        request, account = self.account.request, self.account
        body, model = request.body, settings.model or request.model
        goes_on = bool(of.wanted.prefix) or of.wanted.from_text
        if goes_on and (body.tools is not None or body.grammar is not None):
            raise _NotExpressible("an answer with tools or a response_format cannot be continued on an upstream")
        if goes_on and any(each.reasoning for each in account.emitted):
            raise _NotExpressible("an upstream cannot continue an answer that an engine began with reasoning")
        if body.truncate_prompt_tokens is not None:
            raise _NotExpressible("truncate_prompt_tokens works on local engines only; leave it out")
        # OpenAI streams sounds in one format only, which is not the one that is asked for whole.
        streamed = body.streamed or (settings.stream == "always" and "audio" not in body.written)
        salt = self.principal.salt_of(body)
        marks: tuple[bytes, ...] = ()
        if len(settings.urls) > 1 and settings.affinity == "conversation":
            marks = conversation_marks(body.prompts[0], model, salt, body.cache_key)
        calls: list[UpstreamCall] = []
        choices: dict[int, int] = {}
        ended: list[Delta] = []
        prompt_tokens = tokens = 0
        for index, emitted in enumerate(account.emitted):
            if emitted.finished:
                continue
            params = self._params(index % body.n, lengths[index // body.n], limits)
            limit = params.max_tokens if body.params.max_tokens or account.plan.output_cap is not None else None
            if limit is None and limits.max_model_len >= UNBOUNDED:
                params = msgspec.structs.replace(params, max_tokens=UNLIMITED_OUTPUT_TOKENS)
            prompt, begun = body.prompts[index // body.n], ""
            if goes_on:
                if limit is not None and emitted.tokens >= limit:
                    ended.append(Delta(index, "", (), (), "length"))
                    continue
                limit = None if limit is None else limit - emitted.tokens
                # The upstream still looks for the stop strings: what it continues holds no part of one.
                params = msgspec.structs.replace(
                    params,
                    max_tokens=max(params.max_tokens - emitted.tokens, 1),
                    min_tokens=max(params.min_tokens - emitted.tokens, 0),
                )
                token_ids = of.wanted.prefix[index] if of.wanted.prefix else ()
                prompt, begun = _continued(prompt, "".join(emitted.texts), token_ids, tokenizer)
            number = next(account.ports.numbers)
            call = UpstreamCall(
                sequence_id=number,
                model=model,
                prompt=prompt,
                params=params,
                grammar=body.grammar,
                begun=begun,
                limit=limit,
                written=body.written,
                extra=body.extra,
                streamed=streamed,
                stall_s=account.plan.stall_s,
                cache_salt=salt if "cache_salt" in settings.supports else b"",
                marks=marks,
            )
            if (why := unsupported_reason(call, settings)) is not None:
                raise _NotExpressible(why)
            choices[number] = index
            calls.append(call)
            read = lengths[index // body.n] + emitted.tokens
            prompt_tokens += read
            tokens += read + params.max_tokens
        job = self._job(of, tuple(calls), prompt_tokens, tokens, goes_on=goes_on)
        # Only a judge can decide about an upstream's answer, which has no margins.
        machine = of.cascade if of.cascade is not None and of.cascade.has_judge else None
        assembly = OutputAssembly(choices, machine, call_prefix=f"call_{request.request_id}_")
        return Attempt(of, job, assembly, whole_in_engine=True, model=model), ended

    def _job(
        self,
        of: MachineAttempt,
        sequences: tuple[Submit, ...] | tuple[UpstreamCall, ...] | tuple[Embed | Weigh, ...],
        prompt_tokens: int,
        tokens: int,
        *,
        goes_on: bool,
    ) -> Job:
        return Job(
            job_id=next(self.account.ports.numbers),
            engine=of.rung,
            tenant=self.principal.tenant_queue,
            prompt_tokens=prompt_tokens,
            tokens=tokens,
            bytes=self.account.request.body_bytes,
            deadline=of.wanted.deadline,
            wait_s=self.account.plan.queue_s,
            goes_on=goes_on,
            best_effort=self.account.request.batch is not None,
            waits_for_restart=of.wanted.waits_for_restart,
            begun=of.wanted.begun,
            first_by=of.wanted.first_by,
            sequences=sequences,
            delivery=self.delivery,
            asked=self.account.content,
        )

    def _params(
        self, choice: int, prompt_tokens: int, limits: EngineLimits, drawn: int | None = None
    ) -> SamplingParams:
        """How a choice is sampled on this rung; `drawn`: the seed, if the client has given none. Raises _TooLong."""
        params, left = self.account.request.body.params, limits.max_model_len - prompt_tokens
        if params.prompt_only:
            if left < 0:
                raise _TooLong
            return params
        max_tokens = output_tokens(params.max_tokens, self.account.plan.output_cap, left, limits.default_output_tokens)
        if max_tokens is None:
            raise _TooLong
        seed = drawn if params.seed is None else params.seed
        if choice and seed is not None:
            seed += choice
        if max_tokens == params.max_tokens and seed == params.seed:
            return params
        return msgspec.structs.replace(params, max_tokens=max_tokens, seed=seed)


def output_tokens(max_tokens: int, cap: int | None, left: int, default: int | None) -> int | None:
    """Output tokens of a choice on a rung with `left` tokens after the prompt; None: the rung cannot take it.

    `max_tokens`: the client's limit, 0 for none; `cap`: the route's; `default`: the model's own, where neither has one.
    """
    tokens = tokens_at(max_tokens, cap, left)
    return tokens if tokens is None else tokens or min(left, default or left)


def _continued(
    prompt: Prompt, text: str, token_ids: tuple[int, ...], tokenizer: Tokenizer | None
) -> tuple[Prompt, str]:
    """The prompt, and the text that the upstream continues; after a prompt of token ids both are token ids."""
    if not isinstance(prompt, TokenPrompt):
        return prompt, text
    if tokenizer is None or tokenizer.decode(token_ids) != text:
        # Half a character, or what may become a stop string: tokens whose text the client has not received.
        raise _NotExpressible("the upstream cannot continue the answer from here")
    return TokenPrompt(prompt.token_ids + token_ids), ""
