"""Offline greedy generation for many prompts in one batch, used by `penstock policy calibrate` and `policy eval`."""

import time
from collections.abc import Callable, Sequence

import msgspec

from config.model.settings import EngineSettings
from engine.core.engine import Engine
from engine.errors import ModelError, RequestRefused
from engine.messages import Submit
from engine.sampling.params import SamplingParams
from engine.text.chat_template import ChatTemplate
from engine.text.tokenizer import Tokenizer

_REPORT_EVERY = 200


class OfflineAnswer(msgspec.Struct, frozen=True):
    """One generated text, with the margin of each of its tokens, in nats (see `TokenDelta.margins`)."""

    text: str
    margins: tuple[float, ...]

    @property
    def tokens(self) -> int:
        return len(self.margins)


class OfflineRun(msgspec.Struct, frozen=True):
    """All answers, in the order of the prompts, and what generating them took."""

    answers: tuple[OfflineAnswer, ...]
    step_s: float
    """Total wall-clock seconds of the engine's steps, at the batch size that it would serve with."""
    processor_s: float
    """CPU seconds of this process during these steps, all threads: unlike `step_s` not affected by other load."""


def generate_offline(
    name: str,
    settings: EngineSettings,
    prompts: Sequence[str],
    max_tokens: int,
    progress: Callable[[str], None],
) -> OfflineRun:
    """Generate an answer for each prompt, sent as a single user message, with a freshly loaded engine.

    Raises ModelError: the directory cannot be served, or a prompt is too long for the model; EngineDead: a step failed,
    for example because of NaN logits.
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
    return OfflineRun(tuple(map(OfflineAnswer, texts, map(tuple, margins))), step_s, processor_s)
