"""Measures how much processor time a cascade saves against the large model on every prompt."""

from collections.abc import Sequence
from statistics import median

from gateway.evaluation.cascade_run import CascadeOutcomes, CascadePair, PromptSet, Say, run_model


def savings(
    pair: CascadePair,
    prompt_set: PromptSet,
    outcomes: CascadeOutcomes,
    sent: Sequence[Sequence[int]],
    *,
    rounds: int,
    say: Say,
) -> list[float]:
    """Shares of compute saved, for each set `sent` of prompts (indices) that go to the large model.

    A cascade runs the small model on every prompt, and the large one only on those that it sends. Both are compared
    with the large model on every prompt in the same round; the first round uses the cost in `outcomes`. The median over
    the rounds. Raises `CliError`.
    """
    small, large = pair.cascade.stages
    everything = range(len(prompt_set.prompts))
    saved_by_set: list[list[float]] = [[] for _ in sent]
    small_s, large_s = outcomes.small_cost.processor_s, outcomes.large_cost.processor_s

    def spent(name: str, places: Sequence[int]) -> float:
        if not places:
            return 0.0
        texts = [prompt_set.prompts[place].prompt for place in places]
        settings = pair.small if name == small else pair.large
        return run_model(name, settings, texts, prompt_set.max_tokens, lambda _: None)[1].processor_s

    for turn in range(rounds):
        say(f"compute: round {turn + 1} of {rounds}")
        if turn:
            small_s, large_s = spent(small, everything), spent(large, everything)
        for shares, places in zip(saved_by_set, sent, strict=True):
            shares.append(1 - (small_s + spent(large, places)) / large_s)
    return [median(shares) for shares in saved_by_set]
