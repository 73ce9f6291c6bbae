"""Drive an engine step by step and collect the outputs of every request."""

from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from config.model.settings import EngineSettings
from engine.core.engine import Engine
from engine.lora.adapters import Adapter, PreparedAdapter
from engine.messages import Finish, Finished, SequenceOutput, StepReport, Submit, TokenDelta, TokenLogprobs
from engine.sampling.grammar import CompiledGrammar
from engine.sampling.params import SamplingParams
from engine.scheduling.batch import Runner
from engine.text.tokenizer import Tokenizer
from tests.engine import tiny_tokenizers


@dataclass
class Answer:
    """All outputs of one request, combined."""

    tokens: list[int] = field(default_factory=list)
    text: str = ""
    margins: list[float] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    finish: Finish | None = None

    def add(self, output: SequenceOutput) -> None:
        assert self.finish is None, "an output after the last one"
        self.finish = output.finish
        if isinstance(output, Finished):
            return
        assert isinstance(output, TokenDelta)
        assert not (output.prompt_logprobs and self.tokens), "the prompt's log-probabilities come first"
        self.prompt_logprobs += output.prompt_logprobs
        self.tokens += output.token_ids
        self.text += output.text
        self.margins += output.margins
        self.logprobs += output.logprobs


class Answers(dict[int, Answer]):
    def add(self, report: StepReport) -> None:
        for output in report.outputs:
            self.setdefault(output.sequence_id, Answer()).add(output)


def engine_settings(**changes: Any) -> EngineSettings:
    return EngineSettings(model=Path("none"), **changes)


def make_engine(runner: Runner, tokenizer: Tokenizer | None = None, **changes: Any) -> Engine:
    """An engine with the tiny byte-level tokenizer, or another; `run` checks its integrity after every step."""
    tokenizer = tokenizer or tiny_tokenizers.byte_level_tokenizer()
    return Engine(runner, tokenizer, engine_settings(**changes), seed=7, clock=lambda: 0.0)


def submit(
    sequence_id: int,
    prompt: list[int] | tuple[int, ...],
    *,
    salt: bytes = b"",
    priority: int = 0,
    draft: list[int] | tuple[int, ...] = (),
    output_prefix: int = 0,
    grammar: CompiledGrammar | None = None,
    adapter: str = "",
    best_effort: bool = False,
    **params: Any,
):
    values = {"max_tokens": 8, "temperature": 0.0, "ignore_eos": True, **params}
    return Submit(
        sequence_id=sequence_id,
        best_effort=best_effort,
        prompt_token_ids=tuple(prompt),
        params=SamplingParams(**values),
        draft=tuple(draft),
        output_prefix=output_prefix,
        grammar=grammar,
        adapter=adapter,
        cache_salt=salt,
        priority=priority,
    )


def run(engine: Engine, *commands: Submit, limit: int = 10_000) -> Answers:
    """Submit all, then step until there is no work; at the end every block must be free."""
    answers = Answers()
    for command in commands:
        engine.submit(command)
    for _ in range(limit):
        if not engine.has_work:
            stats = engine.stats()
            assert (stats.free_blocks, stats.outstanding_tokens) == (stats.total_blocks, 0)
            return answers
        answers.add(engine.step())
        engine.check_integrity()
    raise AssertionError(f"not done after {limit} steps: {engine.stats()}")


def adapter(name: str, version: int = 1, content: str | None = None) -> Adapter:
    """For the fake runner. Adapters with equal contents are equal, whatever their names."""
    digest = blake2b((content or f"{name} {version}").encode(), digest_size=16).digest()
    return Adapter(name, version, Path(name), PreparedAdapter(digest, 8, 1000))
