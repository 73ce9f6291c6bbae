"""The requests that judge a text: for the probabilities of a question's outcomes, and for a classifier's labels."""

from actors.api.request import ChatMessage, ChatPrompt, EmbeddingParams, ParsedBody, TextPrompt
from config.model.tenancy import KeyEndpoint
from engine.sampling.params import SamplingParams
from policies.judging.question import Question

_NO_TOKENS = SamplingParams(max_tokens=0)


def judging_body(
    model: str, question: Question, about: str, *, user: str | None = None, cache_salt: str | None = None
) -> ParsedBody:
    """Asks how probable each outcome of the question about this text is."""
    return ParsedBody(
        model=model,
        prompts=(ChatPrompt((ChatMessage("user", question.prompt(about)),)),),
        params=_NO_TOKENS,
        embedding=EmbeddingParams(param="input", endpoint="decisions", answers=question.outcomes),
        thinking=False,
        streamed=False,
        user=user,
        cache_salt=cache_salt or "",
    )


def labelling_body(model: str, texts: tuple[str, ...], endpoint: KeyEndpoint, *, user: str | None = None) -> ParsedBody:
    """Asks a classifier for the scores of its labels."""
    return ParsedBody(
        model=model,
        prompts=tuple(map(TextPrompt, texts)),
        params=_NO_TOKENS,
        embedding=EmbeddingParams(scores="any", endpoint=endpoint),
        streamed=False,
        user=user,
    )
