"""`POST /v1/moderations`: categories of texts, by a classifier's labels."""

from collections.abc import Mapping

import numpy as np

from actors.api.errors import NotFound
from actors.api.request import InferenceRequest, ParsedBody
from actors.api.response import Done
from config.model.judging import ModerationSettings
from gateway.endpoints.api_context import ApiContext
from gateway.errors import HttpError
from gateway.http.request import Body
from gateway.openai.requests.json_body import BodyDecoder, nearest
from gateway.openai.requests.moderation_request import ModerationBody, read_moderation
from gateway.openai.responses.moderation import moderation_answer

MODERATION = BodyDecoder(ModerationBody)


def chosen_moderation(known: Mapping[str, ModerationSettings], name: str | None) -> str:
    """The name of the one that a request means. Raises `HttpError` and NotFound."""
    if not known:
        raise NotFound(
            "moderation_not_configured",
            "This server has no moderation: its operator has to name a classifier and its categories in "
            "[moderations.NAME].",
        )
    chosen = next(iter(known)) if name is None else name
    if chosen not in known:
        meant = nearest(chosen, known)
        hint = f"did you mean '{meant}'?" if meant else f"it has: {', '.join(known)}."
        message = f"There is no moderation named '{chosen[:100]}'; {hint} Without 'model' the first one answers."
        raise HttpError(404, "model_not_found", message, param="model")
    return chosen


class ModerationCall:
    """One request, with the settings that it is answered by."""

    def __init__(self, api: ApiContext) -> None:
        self._api = api
        self._name = ""
        self._settings: ModerationSettings | None = None

    def parse(self, raw: Body) -> ParsedBody:
        """Raises `HttpError` and NotFound."""
        body = MODERATION.decode(raw)[0]
        self._name = chosen_moderation(self._api.service.moderations, body.model)
        self._settings = self._api.service.moderations[self._name]
        self._check_labels(self._name, self._settings)
        return read_moderation(body, self._settings.model, self._api.max_inputs)

    def _check_labels(self, name: str, settings: ModerationSettings) -> None:
        """Raises `HttpError` if the classifier has not all labels of the categories."""
        labels = self._api.service.labels_of(settings.model)
        for category, each in settings.categories.items() if labels else ():
            for label in each.labels:
                if label not in labels:
                    raise HttpError(
                        500,
                        "moderation_misconfigured",
                        f"[moderations.{name}] names the label '{label}' for '{category}', which the classifier does "
                        f"not have; it has: {', '.join(labels)}. Its operator has to correct that.",
                        kind="server_error",
                    )

    def written(self, inference: InferenceRequest, vectors: list[bytes], done: Done) -> bytes:
        assert self._settings is not None, "it was parsed"
        labels = self._api.service.labels(done.served.rung)
        scores = [np.frombuffer(vector, "<f4").tolist() for vector in vectors]
        return moderation_answer(
            inference.request_id,
            self._name,
            categories=self._settings.categories,
            labels=labels,
            scores=scores,
            usage=done.usage,
            served=done.served,
        )
