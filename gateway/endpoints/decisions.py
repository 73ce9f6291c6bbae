"""`POST /v1/decisions`: the outcome of a question about a text, by the probabilities of a model's answers."""

import numpy as np

from actors.api.request import InferenceRequest, ParsedBody
from gateway.decisions.decision_answer import decision_answer
from gateway.decisions.decision_request import DecisionBody, read_decision
from gateway.endpoints.api_context import ApiContext, whole_vectors
from gateway.http.connection import Connection
from gateway.http.request import Body, Request
from gateway.http.response_head import JSON_TYPE
from gateway.openai.requests.json_body import BodyDecoder
from gateway.openai.responses.headers import DecisionHeaders, served_headers
from policies.judging.question import Question

DECISION = BodyDecoder(DecisionBody)


class DecisionHandler:
    """Handles requests for decisions, which are never streamed."""

    def __init__(self, api: ApiContext) -> None:
        self._api = api

    async def __call__(self, connection: Connection, request: Request) -> None:
        call = _Call(self._api)
        await self._api.handle(connection, request, call.parse, call.answer)


class _Call:
    """One request: its question is needed again for its answer."""

    def __init__(self, api: ApiContext) -> None:
        self._api = api
        self._question: Question | None = None

    def parse(self, raw: Body) -> ParsedBody:
        """Raises `BadField`."""
        asked = read_decision(DECISION.decode(raw)[0])
        self._question = asked.question
        return asked.body

    async def answer(
        self, connection: Connection, _: Request, inference: InferenceRequest, headers: DecisionHeaders
    ) -> None:
        assert self._question is not None, "it was parsed"
        response = await self._api.service.open(inference)
        headers.decided = response.decided
        try:
            (vector,), done = await whole_vectors(response, 1)
            served = done.served
            identity = self._api.identity(
                inference.request_id, inference.body.model, served.model_served, served.policy
            )
            temperature = self._api.service.decision_temperature(served.rung)
            logprobs = np.frombuffer(vector, "<f4").tolist()
            body = decision_answer(identity, self._question, logprobs, temperature, done)
            await connection.respond(200, headers.headers() + JSON_TYPE + served_headers(served), body)
        finally:
            response.close()
