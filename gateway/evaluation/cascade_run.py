"""Runs both models of a cascade on the same prompts and compares their answers with the right ones."""

import argparse
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from random import Random
from statistics import median
from typing import Literal

import msgspec

from config.load import load
from config.model.calibration import CalibrationData
from config.model.routing import CascadeSettings
from config.model.settings import EngineSettings
from config.profiles import embedded_profile
from gateway.errors import CliError
from policies.cascade.prompt_model import words_of

Labels = Literal["labelled", "agreement"]
Say = Callable[[str], None]


class LabelledPrompt(msgspec.Struct, frozen=True):
    """One line of a file of prompts."""

    prompt: str
    answer: str | None = None
    """The right answer; required for `--labels labelled`."""


class PromptSet(msgspec.Struct, frozen=True):
    """The prompts, their source, and what counts as right."""

    prompts: tuple[LabelledPrompt, ...]
    source: str
    labels: Labels
    max_tokens: int


class PromptOutcome(msgspec.Struct, frozen=True):
    """The outcome of one prompt with both models."""

    characters: int
    """Length of the prompt, for a baseline that decides by length alone."""
    margins: tuple[float, ...]
    """Margins of the small model's answer, one a token, in nats."""
    small_right: bool
    large_right: bool
    words: tuple[int, ...] = ()
    """Hashed words of the prompt: see `policies.cascade.prompt_model`."""


class Cost(msgspec.Struct, frozen=True):
    """Cost of one model's answers, in seconds of its engine's steps."""

    processor_s: float
    """Processor time of this process, independent of other load on the machine."""
    wall_s: float


class CascadeOutcomes(msgspec.Struct, frozen=True):
    """The input for calibrating and evaluating a cascade."""

    cascade: str
    small: str
    large: str
    small_digest: str
    large_digest: str
    labels: Labels
    data: CalibrationData
    judged: tuple[PromptOutcome, ...]
    small_cost: Cost
    large_cost: Cost


class CascadePair(msgspec.Struct, frozen=True):
    """A cascade whose stages are both engines (no upstreams)."""

    name: str
    cascade: CascadeSettings
    small: EngineSettings
    large: EngineSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags for the cascade and the prompts."""
    add = parser.add_argument
    add(
        "--config",
        type=Path,
        default=embedded_profile(),
        metavar="FILE",
        help="a TOML file or a folder of them (default: the embedded models)",
    )
    add("--cascade", metavar="NAME", help="name of the cascade (default: the only one)")
    add("--prompts", type=Path, metavar="FILE", help='prompts as JSON lines: {"prompt": …, "answer": … (optional)}')
    add(
        "--embedded",
        type=int,
        metavar="N",
        help="use N generated questions that the embedded models were not trained on",
    )
    add("--seed", type=int, default=0, help="seed of --embedded (%(default)s)")
    add(
        "--labels",
        choices=("labelled", "agreement"),
        help="right is the given answer, or the large model's (default: labelled if every prompt has an answer)",
    )
    add("--max-tokens", type=int, default=96, help="most tokens of an answer (%(default)s)")


def load_pair(arguments: argparse.Namespace, *, calibrated: bool) -> CascadePair:
    """The cascade that the flags name; `calibrated`: see `config.load`. Raises `CliError` and `ConfigError`."""
    settings = load(arguments.config, calibrated=calibrated).settings
    known = ", ".join(settings.cascades) or "none"
    if not arguments.cascade and len(settings.cascades) != 1:
        raise CliError(f"choose a cascade with --cascade; the configuration has: {known}", 2)
    name = arguments.cascade or next(iter(settings.cascades))
    if name not in settings.cascades:
        raise CliError(f"{arguments.config} has no cascade '{name}'; it has: {known}", 2)
    cascade = settings.cascades[name]
    for stage in cascade.stages:
        if stage not in settings.engines:
            raise CliError(
                f"cascade '{name}' has the stage '{stage}', which is not an engine: "
                "upstreams cannot be calibrated or evaluated",
                2,
            )
    small, large = cascade.stages
    return CascadePair(name, cascade, settings.engines[small], settings.engines[large])


def load_prompts(arguments: argparse.Namespace) -> PromptSet:
    """The prompts that the flags name. Raises `CliError`."""
    if (arguments.prompts is None) == (arguments.embedded is None):
        raise CliError("give either --prompts FILE or --embedded N", 2)
    if arguments.max_tokens < 1:
        raise CliError("--max-tokens must be at least 1", 2)
    if arguments.prompts is not None:
        prompts, source = _read(arguments.prompts), arguments.prompts.name
    else:
        prompts, source = _generated(arguments.embedded, arguments.seed)
    return PromptSet(tuple(prompts), source, _labels(arguments.labels, prompts), arguments.max_tokens)


def _generated(count: int, seed: int) -> tuple[list[LabelledPrompt], str]:
    if count < 1:
        raise CliError("--embedded must be at least 1", 2)
    from engine.zoo.tasks import held_out_questions

    questions = held_out_questions(Random(seed), count)  # noqa: S311 - for questions, not for secrets
    prompts = [LabelledPrompt(question.prompt, question.answer) for question in questions]
    return prompts, f"{count} held-out zoo questions, seed {seed}"


def _read(path: Path) -> list[LabelledPrompt]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror or error}") from None
    prompts = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            prompts.append(msgspec.json.decode(line, type=LabelledPrompt))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CliError(f'{path}:{number}: expected {{"prompt": "…", "answer": "…"}}: {error}', 2) from None
    if not prompts:
        raise CliError(f"{path} contains no prompts", 2)
    return prompts


def _labels(wanted: Labels | None, prompts: Sequence[LabelledPrompt]) -> Labels:
    missing = next((place for place, prompt in enumerate(prompts, 1) if prompt.answer is None), 0)
    if wanted == "labelled" and missing:
        raise CliError(f"prompt {missing} has no answer: add the answer, or use --labels agreement", 2)
    return wanted or ("agreement" if missing else "labelled")


def run_pair(pair: CascadePair, prompt_set: PromptSet, say: Say) -> CascadeOutcomes:
    """Run both models; `say` is called with lines of progress. Raises `CliError`."""
    from config.model_digest import served_digest

    prompts, labels = prompt_set.prompts, prompt_set.labels
    texts = [prompt.prompt for prompt in prompts]
    small_name, large_name = pair.cascade.stages
    small, small_cost = run_model(small_name, pair.small, texts, prompt_set.max_tokens, say)
    large, large_cost = run_model(large_name, pair.large, texts, prompt_set.max_tokens, say)
    judged = []
    for prompt, (small_text, margins), (large_text, _) in zip(prompts, small, large, strict=True):
        right = large_text if labels == "agreement" else prompt.answer
        words = words_of(prompt.prompt)
        judged.append(PromptOutcome(len(prompt.prompt), margins, small_text == right, large_text == right, words))
    digest = sha256(b"\n".join(map(msgspec.json.encode, prompts))).hexdigest()
    data = CalibrationData(sha256=digest, prompts=len(prompts), source=prompt_set.source)
    return CascadeOutcomes(
        cascade=pair.name,
        small=small_name,
        large=large_name,
        small_digest=served_digest(pair.small),
        large_digest=served_digest(pair.large),
        labels=labels,
        data=data,
        judged=tuple(judged),
        small_cost=small_cost,
        large_cost=large_cost,
    )


def run_model(
    name: str, settings: EngineSettings, texts: Sequence[str], max_tokens: int, say: Say
) -> tuple[list[tuple[str, tuple[float, ...]]], Cost]:
    """One engine's greedy answers with their margins, and their cost. Raises `CliError`."""
    from engine.errors import EngineError
    from engine.offline import generate_offline

    try:
        generated = generate_offline(name, settings, texts, max_tokens, say)
    except EngineError as error:
        raise CliError(f"engine '{name}': {error}") from None
    answers = [(answer.text, answer.margins) for answer in generated.answers]
    return answers, Cost(generated.processor_s, generated.step_s)


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
