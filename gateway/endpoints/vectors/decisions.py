"""`POST /v1/decisions`: the outcome of a question about a text, by the probabilities of a model's answers."""

import numpy as np

from actors.api.request import InferenceRequest, ParsedBody
from actors.api.response import Done
from gateway.decisions.decision_answer import decision_answer
from gateway.decisions.decision_request import DecisionBody, read_decision
from gateway.endpoints.api_context import ApiContext
from gateway.http.request import Body
from gateway.openai.requests.json_body import BodyDecoder
from policies.judging.question import Question

DECISION = BodyDecoder(DecisionBody)


class DecisionCall:
    """One request: its question is needed again for its answer."""

    def __init__(self, api: ApiContext) -> None:
        self._api = api
        self._question: Question | None = None

    def parse(self, raw: Body) -> ParsedBody:
        """Raises `BadField`."""
        asked = read_decision(DECISION.decode(raw)[0])
        self._question = asked.question
        return asked.body

    def written(self, inference: InferenceRequest, vectors: list[bytes], done: Done) -> bytes:
        assert self._question is not None, "it was parsed"
        served = done.served
        identity = self._api.identity(inference.request_id, inference.body.model, served.model_served, served.policy)
        temperature = self._api.service.decision_temperature(served.rung)
        logprobs = np.frombuffer(vectors[0], "<f4").tolist()
        return decision_answer(identity, self._question, logprobs, temperature, done)
