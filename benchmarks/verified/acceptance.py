"""Drafted tokens kept by two acceptance rules on the same drafts: shared noise, and min(1, p / q).

Shared noise: both models sample a position with the same Gumbel noise, and a draft token is accepted if the large model
samples the same one. min(1, p / q): Leviathan et al., "Fast Inference from Transformers via Speculative Decoding",
2023, where a token sampled from q is accepted with that probability; its expectation is computed exactly.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.verified.service import prompts
from config.model.settings import EngineSettings
from engine.core.engine import Engine
from engine.messages import Finish, Submit, TokenLogprobs
from engine.sampling.params import SamplingParams
from engine.text.chat_template import ChatTemplate
from engine.text.tokenizer import Tokenizer
from engine.zoo.train import MODELS

TEMPERATURES = (0.3, 0.5, 0.7, 1.0)
_MAX_TOKENS = 96
Tokens = tuple[int, ...]


def report(count: int, seed: int) -> str:
    """A Markdown table."""
    template, tokenizer = ChatTemplate.load(MODELS / "large"), Tokenizer.load(MODELS / "large")
    encoded = [
        tuple(tokenizer.encode(template.render([{"role": "user", "content": prompt}]), add_special_tokens=False))
        for prompt in prompts(count, seed)
    ]
    lines = [
        "| temperature | drafted | kept, shared noise | min(1, p/q) | of compared, shared noise | min(1, p/q) |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for temperature in TEMPERATURES:
        own = [_params(temperature, seed=number) for number in range(count)]
        drafts = [tokens for tokens, _ in _run("small", [(p, (), each) for p, each in zip(encoded, own, strict=True)])]
        checked = _run("large", list(zip(encoded, drafts, own, strict=True)))
        kept = sum(finish.accepted_tokens for _, finish in checked)
        compared = kept + sum(
            finish.accepted_tokens < len(draft) for draft, (_, finish) in zip(drafts, checked, strict=True)
        )
        chances = _chances(encoded, drafts, temperature)
        expected = sum(float(np.cumprod(each).sum()) for each in chances)
        # Positions weighted by the probability of being reached.
        reached = sum(1 + float(np.cumprod(each)[:-1].sum()) for each in chances)
        drafted = sum(len(draft) for draft in drafts)
        lines.append(
            f"| {temperature} | {drafted} | {kept / drafted:.1%} | {expected / drafted:.1%} | {kept / compared:.1%} | "
            f"{expected / reached:.1%} |"
        )
    return "\n".join(lines)


def _params(temperature: float, seed: int) -> SamplingParams:
    return SamplingParams(max_tokens=_MAX_TOKENS, temperature=temperature, seed=seed)


def _run(name: str, requests: Sequence[tuple[Tokens, Tokens, SamplingParams]]) -> list[tuple[Tokens, Finish]]:
    tokens: list[list[int]] = [[] for _ in requests]
    ends: dict[int, Finish] = {}
    for number, token_ids, _, finish in _outputs(name, requests):
        tokens[number] += token_ids
        if finish is not None:
            ends[number] = finish
    return [(tuple(tokens[number]), ends[number]) for number in range(len(requests))]


def _outputs(
    name: str, requests: Sequence[tuple[Tokens, Tokens, SamplingParams]]
) -> list[tuple[int, Tokens, tuple[TokenLogprobs, ...], Finish | None]]:
    engine = Engine.load(EngineSettings(model=MODELS / name), name)
    try:
        for number, (prompt, draft, params) in enumerate(requests):
            engine.submit(Submit(sequence_id=number, prompt_token_ids=prompt, draft=draft, params=params))
        outputs = []
        while engine.has_work:
            outputs += [(o.sequence_id, o.token_ids, o.logprobs, o.finish) for o in engine.step().deltas]
    finally:
        engine.close()
    return outputs


def _chances(encoded: Sequence[Tokens], drafts: Sequence[Tokens], temperature: float) -> list[npt.NDArray[np.float64]]:
    """For each draft, min(1, p / q) of each of its tokens given those before it."""
    contexts = [
        ((*prompt, *draft[:at]), draft[at])
        for prompt, draft in zip(encoded, drafts, strict=True)
        for at in range(len(draft))
    ]
    p, q = (_probabilities(name, contexts, temperature) for name in ("large", "small"))
    flat = np.minimum(1.0, p / q)
    return np.split(flat, np.cumsum([len(draft) for draft in drafts])[:-1])


def _probabilities(name: str, contexts: Sequence[tuple[Tokens, int]], temperature: float) -> npt.NDArray[np.float64]:
    """Probability of each context's next token at this temperature, from the full distribution at one position."""
    params = SamplingParams(max_tokens=1, temperature=0, logprobs=1 << 30)
    probabilities = np.empty(len(contexts))
    for number, _, logprobs, _ in _outputs(name, [(context, (), params) for context, _ in contexts]):
        values = {token_id: value / temperature for token_id, value, _ in logprobs[0].top}
        probabilities[number] = np.exp(values[contexts[number][1]]) / sum(np.exp(list(values.values())))
    return probabilities
