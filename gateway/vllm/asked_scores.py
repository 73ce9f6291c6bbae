"""What `/rerank`, `/score` and `/classify` have in common: texts to compare, and scores of them."""

from collections.abc import Sequence

import msgspec
import numpy as np

from actors.api.request import EmbeddingParams, ParsedBody, TextPrompt
from actors.api.response import Served, Usage
from actors.request.judging import labelling_body
from engine.sampling.params import SamplingParams
from gateway.openai.requests.fault import fault
from gateway.openai.responses.completion import Identity

_NO_TOKENS = SamplingParams(max_tokens=0)
Compared = tuple[tuple[int, int], ...]


class AskedScores(msgspec.Struct, frozen=True):
    """A request for scores."""

    body: ParsedBody
    compared: Compared | None = None
    """For an embedding model: the two prompts whose vectors each score compares.

    None: a classifier scores each prompt.
    """

    def scores(self, vectors: Sequence[bytes]) -> list[list[float]]:
        """Scores by label of each comparison; `vectors`: float32, little-endian, one for each prompt."""
        read = [np.frombuffer(each, "<f4") for each in vectors]
        if self.compared is None:
            return [each.tolist() for each in read]
        units = [each / (np.linalg.norm(each) or 1.0) for each in read]
        return [[float(units[first] @ units[second])] for first, second in self.compared]


class FoundScores(msgspec.Struct, frozen=True):
    """What was found."""

    identity: Identity
    scores: list[list[float]]
    labels: tuple[str, ...]
    usage: Usage
    served: Served


def compared_texts(
    model: str,
    firsts: Sequence[str],
    seconds: Sequence[str],
    *,
    param: str,
    reads_pairs: bool,
    max_inputs: int,
    user: str | None,
    cut: int | None = None,
    roles: tuple[str, str] | None = None,
) -> AskedScores:
    """Each of `firsts` with its own of `seconds`, or the only one with all of them; `cut`: see `TextPrompt`.

    `roles`: names of the prompts that an embedding model may have for the first and for the second texts.

    Raises `BadField`, which names `param`.
    """
    if len(seconds) > max_inputs:
        raise fault(param, f"holds {len(seconds)} texts; at most {max_inputs} are allowed in one request. Split it.")
    count = len(seconds)
    if reads_pairs:
        pairs = zip(list(firsts) * (count if len(firsts) == 1 else 1), seconds, strict=True)
        prompts = tuple([TextPrompt(first, second, cut) for first, second in pairs])
        return _asked(model, prompts, EmbeddingParams(scores="one", param=param, endpoint="scores"), user, None)
    first_role, second_role = roles or (None, None)
    texts = (
        *[TextPrompt(first, prompt_name=first_role, needs_prompt=False) for first in firsts],
        *[TextPrompt(second, None, cut, second_role, needs_prompt=False) for second in seconds],
    )
    at = len(firsts)
    compared = tuple([(0 if at == 1 else number, at + number) for number in range(count)])
    return _asked(model, texts, EmbeddingParams(param=param, endpoint="scores"), user, compared)


def classified_texts(model: str, texts: Sequence[str], *, max_inputs: int, user: str | None) -> AskedScores:
    """Raises `BadField`."""
    if len(texts) > max_inputs:
        raise fault("input", f"holds {len(texts)} texts; at most {max_inputs} are allowed in one request. Split it.")
    return AskedScores(labelling_body(model, tuple(texts), "scores", user=user))


def _asked(
    model: str, prompts: tuple[TextPrompt, ...], params: EmbeddingParams, user: str | None, compared: Compared | None
) -> AskedScores:
    body = ParsedBody(model=model, prompts=prompts, params=_NO_TOKENS, embedding=params, streamed=False, user=user)
    return AskedScores(body, compared)
