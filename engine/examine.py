"""Ask a model many prompts at once, greedily, through the engine itself: `penstock policy calibrate`, `policy eval`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from engine.core.engine import Engine
from engine.core.messages import Submit
from engine.errors import ModelError, RequestRefused
from engine.sampling.params import SamplingParams
from engine.text.chat_template import ChatTemplate
from engine.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from config.model.settings import EngineSettings

_REPORT_EVERY = 200


class ExaminedAnswer(msgspec.Struct, frozen=True):
    """What a model said; one margin a token, in nats."""

    text: str
    margins: tuple[float, ...]

    @property
    def tokens(self) -> int:
        """How many it took."""
        return len(self.margins)


class Examination(msgspec.Struct, frozen=True):
    """All answers, in the order of the prompts, and what they cost."""

    answers: tuple[ExaminedAnswer, ...]
    step_s: float
    """Seconds that the engine's steps took in all, with as many sequences at once as it would serve."""
    processor_s: float
    """Seconds of all processors' time in these steps: what the work costs, whoever else uses the machine."""


def examine(
    name: str,
    settings: EngineSettings,
    prompts: Sequence[str],
    max_tokens: int,
    progress: Callable[[str], None],
) -> Examination:
    """Put each prompt to a fresh engine as a user's one message.

    Raises:
        ModelError: the directory cannot be served, or a prompt is too long for the model.
        EngineDead: the model's numbers cannot be trusted.
    """
    template, tokenizer = ChatTemplate.load(settings.model), Tokenizer.load(settings.model)
    engine = Engine.load(settings, name)
    texts = [""] * len(prompts)
    margins: list[list[float]] = [[] for _ in prompts]
    done, step_s, processor_s = 0, 0.0, 0.0
    try:
        for number, prompt in enumerate(prompts):
            text = template.render([{"role": "user", "content": prompt}])
            ids = tuple(tokenizer.encode(text, add_special_tokens=False))
            params = SamplingParams(max_tokens=max_tokens, temperature=0)
            try:
                engine.submit(Submit(sequence_id=number, prompt_token_ids=ids, params=params))
            except RequestRefused as error:
                raise ModelError(error.code, f"prompt {number + 1} cannot be asked of '{name}': {error}") from None
        while engine.has_work:
            began = time.process_time()
            report = engine.step()
            processor_s += time.process_time() - began
            step_s += report.stats.step_s
            for delta in report.deltas:
                number = delta.sequence_id
                texts[number] += delta.text
                margins[number] += delta.margins
                if delta.finish is None:
                    continue
                done += 1
                if done % _REPORT_EVERY == 0 or done == len(prompts):
                    progress(f"{name}: {done}/{len(prompts)} prompts")
    finally:
        engine.close()
    return Examination(tuple(map(ExaminedAnswer, texts, map(tuple, margins))), step_s, processor_s)
