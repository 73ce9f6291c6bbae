"""Asks models what they make of a text, by requests of the service's own."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec
import numpy as np
import trio

from actors.api.errors import InvalidRequest, Refusal, Unavailable
from actors.api.request import BegunAnswer, ChatPrompt, InferenceRequest, Prompt, TextPrompt
from actors.api.response import Delta, Done, Failed, ResponseEvent
from actors.request.judging import judging_body, labelling_body
from config.model.judging import JudgedBy
from policies.judging.judgement import judged
from policies.judging.question import predicate

_PATH = "/v1/decisions"


class OwnResponse(Protocol):
    """What is used of a `ResponseStream`, which itself asks judges."""

    async def next_events(self) -> list[ResponseEvent]: ...

    def close(self) -> None: ...


class TextJudge:
    """One judgement after the other. The tenant of the request for which it is made pays, as for any decision."""

    def __init__(
        self,
        open_own: Callable[[InferenceRequest], Awaitable[OwnResponse]],
        labels: Callable[[str], tuple[str, ...]],
        temperature: Callable[[str], float | None],
    ) -> None:
        """`open_own`: opens a request that no key has to permit. `labels`, `temperature`: of a rung."""
        self._open_own = open_own
        self._labels = labels
        self._temperature = temperature

    async def holds(
        self, by: JudgedBy, about: str, *, name: str, request: InferenceRequest, answered: bool = False
    ) -> float:
        """How much the predicate or the labels hold of this text, 0 to 1. Raises Refusal.

        `name`: ends the id of its own request. `answered`: the request was let in, and the text is its answer's.
        """
        body = (
            judging_body(by.model, predicate(by.predicate), about)
            if by.predicate
            else labelling_body(by.model, (about,), "scores")
        )
        own = InferenceRequest(
            request_id=f"{request.request_id}-{name}",
            credentials=msgspec.structs.replace(request.credentials, path=_PATH),
            body=body,
            body_bytes=len(about),
            arrived_at=trio.current_time(),
            begun=None if request.begun is None else BegunAnswer(request.begun.tenant),
            of_service=True,
            about_answer=answered,
            batch=request.batch,
        )
        vector, rung = await self._vector(own)
        if by.predicate:
            return judged(vector, self._temperature(rung) or 1.0).probabilities[0]
        labels = self._labels(rung)
        missing = [label for label in by.labels if label not in labels]
        if missing:
            raise InvalidRequest(f"the classifier has no label '{missing[0]}'; it has: {', '.join(labels)}.")
        return max(vector[labels.index(label)] for label in by.labels)

    async def answer_holds(self, by: JudgedBy, answers: Sequence[str], *, request: InferenceRequest) -> float:
        """The least of all choices. Raises Refusal: one cannot be judged."""
        body, least = request.body, 1.0
        for index, answer in enumerate(answers):
            about = question_and_answer(body.prompts[index // body.n], answer)
            if about is None:
                raise InvalidRequest("token ids, images, sounds and files cannot be judged.")
            name = "judge" if len(answers) == 1 else f"judge-{index}"
            least = min(least, await self.holds(by, about, name=name, request=request, answered=True))
            if least < by.threshold:
                break
        return least

    async def _vector(self, own: InferenceRequest) -> tuple[list[float], str]:
        """What was computed, and the rung that did it."""
        response = await self._open_own(own)
        vector: list[float] = []
        try:
            while events := await response.next_events():
                for event in events:
                    match event:
                        case Delta(embedding=bytes() as found):
                            vector = np.frombuffer(found, "<f4").tolist()
                        case Done(served=served):
                            return vector, served.rung
                        case Failed(error=error):
                            raise Refusal(error)
        finally:
            response.close()
        raise Unavailable("not_judged", "The judgement has ended without a result.")


def readable(delta: Delta) -> str:
    """Of an answer: text, and tool calls as `name(arguments)`."""
    return delta.text + "".join([f"{call.name}({call.arguments})" for call in delta.calls])


def question_and_answer(prompt: Prompt, answer: str) -> str | None:
    """What a judge of answers reads; None: the prompt is not text."""
    match prompt:
        case ChatPrompt(messages) if not prompt.media:
            said = [f"{message.role}: {message.content}" for message in messages if message.content]
            return "\n\n".join([*said, f"assistant: {answer}"])
        case TextPrompt(text):
            return f"{text}\n\n{answer}"
        case _:
            return None
