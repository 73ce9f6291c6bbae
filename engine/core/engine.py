"""Engine for a decoder model: scheduler, runner, tokenizer and running outputs, advanced one step at a time.

All calls come from the one thread that owns the engine (see engine/core/loop.py).
"""

from collections.abc import Callable, Iterable
from functools import partial
from itertools import groupby
from math import inf, nan
from pathlib import Path
from secrets import randbits
from time import perf_counter
from typing import Self

import msgspec

from config.model.settings import EngineSettings
from engine.core.lifecycle import EngineBase
from engine.core.limits import EngineLimits
from engine.core.weighing import Weighings
from engine.errors import EngineError, RequestRefused
from engine.lora.adapters import Adapter, AdapterTable, AdapterUse, PreparedAdapter
from engine.messages import (
    Abort,
    AddAdapter,
    Command,
    DropAdapter,
    Embed,
    EngineStats,
    ExpectTokens,
    Finish,
    Finished,
    FinishReason,
    SequenceOutput,
    Submit,
    TokenDelta,
    TokenLogprobs,
    Weigh,
)
from engine.model.model_config import read_model_config
from engine.sampling.bad_words import spellings
from engine.sampling.defaults import API_DEFAULTS, SamplingDefaults, read_defaults
from engine.sampling.grammar import GrammarState
from engine.sampling.params import sequence_seed
from engine.scheduling.batch import OverlappingRunner, Runner, Sampled, ScoredToken, SplitRunner, SwappingRunner
from engine.scheduling.lookup import NgramLookup
from engine.scheduling.output import Output
from engine.scheduling.plan import StepPlan, can_plan_ahead
from engine.scheduling.scheduler import Scheduler
from engine.scheduling.sequence import Sequence
from engine.text.reasoning_cap import CapState
from engine.text.tokenizer import Tokenizer


class Engine(EngineBase):
    """Each accepted sequence gets exactly one `Finish`, whatever happens, unless the engine itself fails."""

    def __init__(
        self,
        runner: Runner,
        tokenizer: Tokenizer,
        settings: EngineSettings,
        *,
        name: str = "engine",
        seed: int | None = None,
        clock: Callable[[], float] = perf_counter,
        defaults: SamplingDefaults = API_DEFAULTS,
    ) -> None:
        """`seed`: base seed of requests that have none; None draws one.

        `defaults`: the model's sampling parameters, for those that a request leaves out.
        """
        super().__init__(name, clock, runner.close)
        max_model_len = settings.max_model_len
        self.limits = EngineLimits(
            vocab_size=runner.vocab_size,
            model_tokens=runner.max_model_len if max_model_len is None else min(max_model_len, runner.max_model_len),
            pool_tokens=(runner.total_blocks - 1) * runner.block_size,
            default_output_tokens=defaults.max_new_tokens,
        )
        self._defaults = defaults
        self._scheduler = Scheduler(
            settings,
            total_blocks=runner.total_blocks,
            block_size=runner.block_size,
            max_model_len=self.limits.max_model_len,
            host_blocks=runner.host_blocks if isinstance(runner, SwappingRunner) else 0,
        )
        self._runner = runner
        self._overlapping: OverlappingRunner | None = None
        if isinstance(runner, OverlappingRunner) and runner.overlaps and settings.speculate is None:
            self._overlapping = runner
        self._in_flight: tuple[StepPlan, Callable[[], Sampled]] | None = None
        """The launched step, if the runner overlaps; its results are collected after the next launch."""
        self._tokenizer = tokenizer
        self._seed = randbits(64) if seed is None else seed
        self._total_blocks = runner.total_blocks - 1
        self._alive: dict[int, tuple[Sequence, Output]] = {}
        self._adapters = AdapterTable()
        self._speculate = settings.speculate
        self._lookups: dict[int, NgramLookup] = {}
        """By sequence id, with n-gram speculation."""
        self._scored: dict[int, list[ScoredToken]] = {}
        """By sequence id, for requests with `prompt_logprobs`, until their first output."""
        self._weighings = Weighings()
        self._arrivals = 0
        self._generation_tokens = 0
        self._drafted_tokens = 0
        self._accepted_tokens = 0

    @classmethod
    def load(cls, settings: EngineSettings, name: str, progress: Callable[[str], None] | None = None) -> Self:
        """Load `settings.model`. Slow, and imports torch: to be called in the thread that will own the engine.

        Raises EngineError: the directory cannot be served (ModelError), or not with these settings.
        """
        # First, because its errors are the clearest for a directory that holds no model.
        read_model_config(settings.model, settings.ignore_config_keys)
        tokenizer = Tokenizer.load(settings.model)
        defaults = read_defaults(settings.model) if settings.generation_config else API_DEFAULTS
        if progress is not None and defaults != API_DEFAULTS:
            progress(str(defaults))
        from engine.tensor_parallel.runner import load_runner

        runner = load_runner(settings, progress)
        try:
            return cls(runner, tokenizer, settings, name=name, defaults=defaults)
        except EngineError:
            runner.close()
            raise

    @property
    def has_work(self) -> bool:
        return bool(self._pending_outputs) or self._in_flight is not None or self._scheduler.has_work

    def accept(self, command: Command) -> None:
        """Execute a command that has no reply: a refusal becomes the request's output in the next report."""
        match command:
            case Submit():
                try:
                    self.submit(command)
                except RequestRefused as error:
                    self._refuse(command.sequence_id, len(command.prompt_token_ids), error)
            case Weigh():
                try:
                    self.weigh(command)
                except RequestRefused as error:
                    self._refuse(command.sequence_id, len(command.prompt_token_ids), error)
            case Abort(sequence_id):
                self.abort(sequence_id)
            case ExpectTokens():
                self.expect(command)
            case Embed(sequence_id=sequence_id, token_ids=token_ids):
                self._refuse(
                    sequence_id,
                    len(token_ids),
                    RequestRefused("not_embedding", "This model makes text, not embeddings."),
                )
            case AddAdapter(adapter):
                self._adapters.put(adapter)
            case DropAdapter(name):
                self._adapters.drop(name)

    def submit(self, command: Submit) -> None:
        """Add a sequence to the scheduler. Raises RequestRefused if it can never run here, EngineDead after the end."""
        self._check_alive()
        self.limits.check(command)
        if command.sequence_id in self._alive:
            raise RequestRefused(
                "sequence_id_in_use", f"Sequence id {command.sequence_id} is running already; ids must be unique."
            )
        params = self._defaults.fill(command.params)
        command = msgspec.structs.replace(command, params=params)
        prompt = command.prompt_token_ids
        eos_ids = frozenset() if params.ignore_eos else self._tokenizer.eos_ids
        wanted = 0 if params.prompt_only else params.max_tokens
        limit = min(len(prompt) + wanted, self.limits.max_model_len)
        grammar = self._grammar(command)
        adapter = self._adapters.find(command.adapter)
        self._arrivals += 1
        sequence = Sequence(
            command,
            arrival=self._arrivals,
            limit=limit,
            seed=sequence_seed(params.seed, self._seed, command.sequence_id),
            banned=self._banned(params.stop_token_ids, eos_ids) if params.min_tokens else (),
            bad_words=spellings(params.bad_words, self._tokenizer) if params.bad_words else (),
            grammar=grammar,
            cap=self._cap(command),
            adapter=adapter,
        )
        detokenizer = self._tokenizer.detokenizer(
            prompt, skip_special=params.skip_special_tokens, exact=grammar is not None
        )
        output = Output(params, detokenizer, eos_ids=eos_ids, max_tokens=limit - len(prompt))
        self._alive[command.sequence_id] = sequence, output
        self._adapters.hold(adapter)
        if self._speculate is not None:
            self._lookups[command.sequence_id] = NgramLookup(
                prompt, ngram=self._speculate.ngram, tokens=self._speculate.tokens
            )
        if params.prompt_logprobs is not None:
            self._scored[command.sequence_id] = []
        self._scheduler.add(sequence)
        self._prompt_tokens += len(prompt)

    def weigh(self, command: Weigh) -> None:
        """Add the readings of which its output is made. Raises as `submit` does, and then adds none."""
        self._check_alive()
        if command.sequence_id in self._weighings:
            raise RequestRefused(
                "sequence_id_in_use", f"Sequence id {command.sequence_id} is running already; ids must be unique."
            )
        readings = self._weighings.begin(command)
        try:
            for reading in readings:
                self.limits.check(reading)
            for reading in readings:
                self.submit(reading)
        except RequestRefused:
            for begun in self._weighings.drop(command.sequence_id)[0]:
                self._leave(begun)
            raise

    @staticmethod
    def _grammar(command: Submit) -> GrammarState | None:
        """The grammar's state after `output_prefix`. Raises RequestRefused if nothing can follow there."""
        if command.grammar is None:
            return None
        state = command.grammar.start()
        if command.output_prefix:
            state.advance(command.prompt_token_ids[-command.output_prefix :])
        if state.error is not None or state.complete:
            raise RequestRefused(
                "grammar_violated",
                "The answer cannot continue from here under its grammar: "
                f"{state.error or 'it is complete already; nothing can follow'}.",
            )
        return state

    def _cap(self, command: Submit) -> CapState | None:
        """The state of the cap on the reasoning after `output_prefix`."""
        if command.reasoning_cap is None:
            return None
        spell = self._tokenizer.token_bytes
        silent = self._tokenizer.special_ids if command.params.skip_special_tokens else ()
        state = CapState(command.reasoning_cap, lambda token_id: b"" if token_id in silent else spell(token_id))
        if command.output_prefix:
            state.advance(command.prompt_token_ids[-command.output_prefix :])
        return state

    def _banned(self, stop_ids: tuple[int, ...], eos_ids: frozenset[int]) -> tuple[int, ...]:
        """End and stop tokens, without those beyond the vocabulary, which some model files name and none can sample."""
        return tuple(sorted(token_id for token_id in {*stop_ids, *eos_ids} if token_id < self.limits.vocab_size))

    def read_adapter(self, directory: Path) -> PreparedAdapter:
        return self._runner.read_adapter(directory)

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        return self._adapters.current

    def abort(self, sequence_id: int) -> None:
        if sequence_id in self._weighings:
            begun, end = self._weighings.drop(sequence_id)
            for reading in begun:
                self._leave(reading)
            self._pending_outputs.append(end)
        elif (finish := self._leave(sequence_id)) is not None:
            self._pending_outputs.append(Finished(sequence_id, finish))

    def _leave(self, sequence_id: int) -> Finish | None:
        """End a sequence without further output; None: it is not alive."""
        entry = self._alive.get(sequence_id)
        if entry is None:
            return None
        sequence, output = entry
        output.reason = "abort"
        return self._finish(sequence, output)

    def expect(self, command: ExpectTokens) -> None:
        entry = self._alive.get(command.sequence_id)
        if entry is not None and entry[0].feed >= 0:
            self._collect(self._pending_outputs)  # a draft is compared with the output, which must be complete
            entry = self._alive.get(command.sequence_id)
        if entry is None or entry[0].draft:
            return
        sequence, after = entry[0], command.after
        generated = sequence.output[after:]
        rest = command.draft[len(generated) :]
        valid = all(0 <= token_id < self.limits.vocab_size for token_id in rest)
        if valid and after <= len(sequence.output) and tuple(generated) == command.draft[: len(generated)]:
            sequence.propose(rest)

    def _unfinished(self) -> Iterable[int]:
        return [*self._weighings, *[each for each in self._alive if each >= 0]]

    def _compute(self, outputs: list[SequenceOutput]) -> tuple[AdapterUse, ...]:
        """With an overlapping runner, batch n + 1 is launched before the results of batch n are collected.

        The outputs are those of batch n, as long as the host need not choose a token of batch n.
        """
        plan = self._scheduler.schedule()
        if self._overlapping is not None:
            self._overlap(self._overlapping, plan, outputs)
        elif plan is not None:
            sampled = self._ending(partial(self._runner.execute, plan.batch))
            self._done(plan, self._scheduler.commit(plan.shares), sampled, outputs)
        return self._adapters.uses()

    def _overlap(self, runner: OverlappingRunner, plan: StepPlan | None, outputs: list[SequenceOutput]) -> None:
        """Launch `plan`, then collect the results of the previous launch while the device computes."""
        if plan is None:
            self._collect(outputs)
            return
        result = self._ending(partial(runner.launch, plan.batch))
        self._collect(outputs)
        if can_plan_ahead(plan):
            self._scheduler.commit_launched(plan.shares)
            self._in_flight = plan, result
        else:
            self._done(plan, self._scheduler.commit(plan.shares), self._ending(result), outputs)

    def _collect(self, outputs: list[SequenceOutput]) -> None:
        """Wait for the step in flight, if there is one, and process its results."""
        if self._in_flight is not None:
            (plan, result), self._in_flight = self._in_flight, None
            sampled = self._ending(result)
            self._done(plan, self._scheduler.commit_arrived(plan.shares), sampled, outputs)

    def _done(
        self, plan: StepPlan, takers: list[Sequence | None], sampled: Sampled, outputs: list[SequenceOutput]
    ) -> None:
        self._score(plan, sampled.scored)
        for sequence, rows in groupby(range(len(takers)), key=takers.__getitem__):
            if sequence is not None:
                output = self._weighings.passed(self._accept(sequence, rows, sampled))
                if output is not None:
                    outputs.append(output)
        self._steps += 1
        self._step_tokens += len(plan.batch.token_ids)

    def _score(self, plan: StepPlan, scored: list[ScoredToken]) -> None:
        """Keep the scores of prompt tokens until the sequence's first output."""
        start = 0
        for share in plan.shares:
            end = start + share.scored
            if share.scored and share.epoch == share.sequence.epoch:
                self._scored[share.sequence.sequence_id] += scored[start:end]
            start = end

    def _accept(self, sequence: Sequence, rows: Iterable[int], sampled: Sampled) -> TokenDelta:
        """Append the sampled tokens to one sequence: as many draft tokens as were right, and one more."""
        output = self._alive[sequence.sequence_id][1]
        drafted = bool(sequence.draft)
        grammar = sequence.grammar
        token_ids: list[int] = []
        text = ""
        margins: list[float] = []
        logprobs: list[TokenLogprobs] = []
        prompt = self._prompt_logprobs(sequence)
        if sequence.params.prompt_only:
            for row in rows if sequence.params.logprob_token_ids else ():
                if (logprob := sampled.logprobs[row]) is not None:
                    logprobs.append(self._spell(sequence, sampled.token_ids[row], *logprob))
            output.reason, rows = "length", ()
        for row in rows:
            token_id, logprob = sampled.token_ids[row], sampled.logprobs[row]
            expected = sequence.append(token_id)
            token_ids.append(token_id)
            if grammar is not None:
                grammar.advance((token_id,))
            if sequence.cap is not None:
                sequence.cap.advance((token_id,))
            text += output.push(token_id, last=grammar is not None and grammar.complete)
            if grammar is not None and grammar.error is not None:
                output.reason = "error"
            if sampled.margins[row] != inf:
                margins.append(sampled.margins[row])
            if logprob is not None:
                logprobs.append(self._spell(sequence, token_id, *logprob))
            if not expected or output.reason is not None:
                break
        self._generation_tokens += len(token_ids)
        if drafted:
            self._scheduler.settle(sequence)
        finish = None
        if output.reason is not None:
            finish = self._finish(sequence, output)
        elif not sequence.draft and (lookup := self._lookups.get(sequence.sequence_id)) is not None:
            sequence.propose(lookup.propose(sequence.output))
        return TokenDelta(sequence.sequence_id, tuple(token_ids), text, tuple(margins), tuple(logprobs), finish, prompt)

    def _prompt_logprobs(self, sequence: Sequence) -> tuple[TokenLogprobs, ...]:
        """The scored prompt for the sequence's first output; empty if not requested."""
        scored = self._scored.pop(sequence.sequence_id, None)
        if scored is None:
            return ()
        first = self._spell(sequence, sequence.prompt[0], nan, ())
        return (first, *[self._spell(sequence, it.token_id, it.logprob, it.top, it.rank) for it in scored])

    def _spell(
        self, sequence: Sequence, token_id: int, logprob: float, top: tuple[tuple[int, float], ...], rank: int = 0
    ) -> TokenLogprobs:
        spell = self._tokenizer.token_bytes
        alternatives = tuple((i, value, spell(i)) for i, value in top)
        special = sequence.params.skip_special_tokens and token_id in self._tokenizer.special_ids
        return TokenLogprobs(token_id, logprob, spell(token_id), alternatives, special=special, rank=rank)

    def _finish(self, sequence: Sequence, output: Output) -> Finish:
        reason: FinishReason | None = output.reason
        assert reason is not None
        code = message = ""
        if reason == "error" and sequence.grammar is not None:
            code, message = "grammar_failed", f"the answer's grammar cannot be followed: {sequence.grammar.error}"
        self._scheduler.finish(sequence)
        self._adapters.release(sequence.adapter)
        del self._alive[sequence.sequence_id]
        self._lookups.pop(sequence.sequence_id, None)
        self._scored.pop(sequence.sequence_id, None)
        self._drafted_tokens += sequence.drafted_tokens
        self._accepted_tokens += sequence.accepted_tokens
        return Finish(
            reason=reason,
            prompt_tokens=len(sequence.prompt),
            completion_tokens=len(sequence.output),
            cached_tokens=sequence.cached_tokens,
            stop=output.stop,
            preemptions=sequence.preemptions,
            drafted_tokens=sequence.drafted_tokens,
            accepted_tokens=sequence.accepted_tokens,
            adapter_version=0 if sequence.adapter is None else sequence.adapter.version,
            code=code,
            message=message,
        )

    def stats(self) -> EngineStats:
        now = self._scheduler.statistics()
        return EngineStats(
            total_blocks=self._total_blocks,
            free_blocks=now.blocks.free + now.blocks.cached,
            cached_blocks=now.blocks.cached,
            running=now.running,
            waiting=now.waiting,
            outstanding_tokens=now.outstanding_tokens,
            kv_bytes=self._runner.kv_bytes,
            step_s=self._step_s,
            step_tokens=self._step_tokens,
            steps_total=self._steps,
            preemptions_total=now.preemptions_total,
            prefix_queries_total=now.prefix_queries_total,
            prefix_hits_total=now.prefix_hits_total,
            prompt_tokens_total=self._prompt_tokens,
            generation_tokens_total=self._generation_tokens,
            drafted_tokens_total=self._drafted_tokens,
            accepted_tokens_total=self._accepted_tokens,
            host_blocks=now.blocks.host,
            swapped_out_total=now.blocks.swapped_out_total,
            swapped_in_total=now.blocks.swapped_in_total,
            best_effort_running=now.best_effort.running,
            best_effort_waiting=now.best_effort.waiting,
            best_effort_tokens=now.best_effort.outstanding_tokens,
            best_effort_blocks=now.best_effort.blocks,
        )

    def check_integrity(self) -> None:
        """Raises EngineError if engine, scheduler, block manager and adapter table contradict each other."""
        self._scheduler.check_integrity()
        self._weighings.check_integrity(list(self._alive))
        self._adapters.check_integrity([sequence.adapter for sequence, _ in self._alive.values()])
        statistics = self._scheduler.statistics()
        if len(self._alive) != statistics.running + statistics.waiting:
            raise EngineError(
                "engine_integrity", "a request has no sequence, or a sequence no request; this is a defect"
            )

    def check_runner(self) -> None:
        """Raises EngineDead if a tensor-parallel rank has ended; the next step would fail."""
        if isinstance(self._runner, SplitRunner):
            self._ending(self._runner.check_ranks, "between two steps")
