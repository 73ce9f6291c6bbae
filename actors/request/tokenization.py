"""Tokens of prompts and texts of tokens, by the tokenizer of the model that is asked for."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from actors.api.errors import InvalidRequest
from actors.api.request import InferenceRequest, Prompt, TokenizeParams, TokenPrompt
from actors.kernel.thread_bridge import WorkerPool
from actors.prompt.model_text import ModelText, TokenIds, characters
from actors.request.ports import RequestPorts
from actors.request.request_log import LogIdentity
from actors.routing.key_check import check_body
from actors.routing.router import Router
from engine.errors import RequestRefused
from engine.text.tokenizer import LONG_CHARACTERS
from policies.model.backends import UNBOUNDED
from policies.queueing.turn_queue import WorkFor

T = TypeVar("T")
_LONG_TOKENS = LONG_CHARACTERS // 4
"""The texts of so many tokens take as long as encoding `LONG_CHARACTERS`."""


class Tokenized(msgspec.Struct, frozen=True):
    """A prompt's tokens."""

    tokens: TokenIds
    max_model_len: int | None
    """Tokens of prompt and output together that the model takes; None: its upstream's length is not configured."""
    spelled: list[str] | None
    """If requested: each token as the vocabulary writes it."""


class Tokenization:
    """Runs in the task that asks. Nothing is planned, reserved or charged: no model computes anything."""

    def __init__(self, router: Router, workers: WorkerPool, ports: RequestPorts) -> None:
        self._router = router
        self._workers = workers
        self._ports = ports

    async def tokenize(self, request: InferenceRequest, who: LogIdentity) -> Tokenized:
        """Raises Refusal."""
        rung, work_for = self._admit(request, who)
        text, params, (prompt,) = self._ports.texts[rung], request.body.tokenize, request.body.prompts
        assert params is not None
        limits = self._ports.all_published[rung].limits
        length = UNBOUNDED if limits is None else limits.max_model_len

        def work() -> Tokenized:
            tokens = _encode(text, prompt, params)
            known = None if length >= UNBOUNDED else length
            return Tokenized(tokens, known, text.tokenizer.spellings(tokens) if params.spelled else None)

        return await self._done(request, work, work_for, is_long=characters(prompt) >= LONG_CHARACTERS)

    async def detokenize(self, request: InferenceRequest, who: LogIdentity) -> str:
        """Raises Refusal."""
        rung, work_for = self._admit(request, who)
        text, (prompt,) = self._ports.texts[rung], request.body.prompts
        assert isinstance(prompt, TokenPrompt)

        def work() -> str:
            return text.tokenizer.whole_text(prompt.token_ids)

        return await self._done(request, work, work_for, is_long=len(prompt.token_ids) >= _LONG_TOKENS)

    def _admit(self, request: InferenceRequest, who: LogIdentity) -> tuple[str, WorkFor]:
        """The rung whose tokenizer is asked for: the model's own name, else the first that may answer for it.

        Raises Refusal: the key does not permit this, the model is unknown, or the rung's tokenizer is.
        """
        snapshot = self._router.snapshot
        granted = snapshot.grant_of(request.credentials.api_key, self._ports.wall())
        who.tenant = granted.tenant
        check_body(granted, request.body)
        if media := request.body.media:
            raise InvalidRequest(
                f"'{media[0].where}' is no text: how many tokens it is depends on the upstream that reads it.",
                param=media[0].where,
                code="media_not_supported",
            )
        model, _ = self._router.find_model(request.body.model)
        rungs = snapshot.policy.rungs_of(model)
        rung = model if model in rungs else next(iter(rungs), "")
        if rung not in self._ports.texts:
            what = f"the upstream '{rung}', whose tokenizer this server does not have" if rung else "fixed texts only"
            raise InvalidRequest(
                f"The model '{request.body.model}' is answered by {what}. Ask another model.",
                param="model",
                code="tokenizer_unknown",
            )
        return rung, WorkFor(granted.tenant, snapshot.ranks[granted.tenant])

    async def _done(self, request: InferenceRequest, work: Callable[[], T], work_for: WorkFor, *, is_long: bool) -> T:
        try:
            return await self._workers.run_in_thread(work, work_for) if is_long else work()
        except RequestRefused as refused:
            raise InvalidRequest(refused.message, param=request.body.param, code=refused.code) from None


def _encode(text: ModelText, prompt: Prompt, params: TokenizeParams) -> TokenIds:
    return text.encode(prompt, special_tokens=params.special_tokens, generation_prompt=params.generation_prompt)
