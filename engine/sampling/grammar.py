"""Constrained decoding: JSON, JSON Schema, regular expression, choice, or context-free grammar, by llguidance.

A grammar is compiled once, before its request is admitted and outside of the event loop. Each sequence has a matcher of
its own, which gives the allowed tokens before each sample and consumes the sampled token.
"""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property, lru_cache
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.gbnf_to_lark import GbnfToLarkError, any_to_lark

from engine.errors import RequestRefused
from engine.sampling.schema_numbers import drop_numbers, number_faults
from engine.sampling.schema_relax import relax, rust_patterns, strict_fault, whole_counts
from engine.text.tokenizer import Tokenizer

MAX_CHARACTERS = 65_536
"""Limit of a grammar's source. Beyond it llguidance's own limits apply, which count steps rather than time."""
_CACHED = 64
_LIMITS = LLParserLimits(verbose_errors=False)
_SCHEMA_IN_LARK = re.compile(r"%json(?:\s|//[^\n]*\n|#[^\n]*\n)*")
_WHITESPACE = r"[ \n\r\t]{1,32}"
"""Whitespace in JSON. Without a bound a model that is unsure can emit white space up to its last token."""
_CONTROLS = re.compile(r"\\(?:u00|\\x|\\u00)(?:[01]|7[fF])|\\\\[av]")
"""In the JSON of a schema: a control character, or a pattern's escape of one."""

GrammarKind = Literal["json_schema", "regex", "choice", "grammar"]
Allowed = npt.NDArray[np.bool_]


class Grammar(msgspec.Struct, frozen=True):
    """A constraint on the output."""

    kind: GrammarKind
    source: str
    """JSON Schema, regular expression for the whole output, JSON list of strings, or Lark or GBNF."""
    lenient: bool = False
    """Ignore schema keywords that cannot be enforced; otherwise they are an error."""
    param: str = "response_format"
    """The request field that an error message names."""
    passed_over: tuple[str, ...] = ()
    """Parts of the schemas that were dropped because they cannot be enforced and are not strict."""


class GrammarState:
    """Matcher of one sequence. Used in its engine's thread only."""

    __slots__ = ("_consumed", "_matcher", "_tokens", "error")

    def __init__(self, matcher: LLMatcher, tokens: int) -> None:
        """`tokens`: size of the tokenizer's vocabulary; the model's is often padded to more."""
        self._matcher = matcher
        self._tokens = tokens
        self._consumed = 0
        self.error: str | None = None
        """Why the grammar cannot be followed any further; the sequence must end."""

    def copy(self) -> "GrammarState":
        copied = GrammarState(self._matcher.deep_copy(), self._tokens)
        copied._consumed, copied.error = self._consumed, self.error
        return copied

    @property
    def complete(self) -> bool:
        """Whether no token can follow."""
        return self.error is None and bool(self._matcher.is_stopped())

    def advance(self, token_ids: Sequence[int]) -> None:
        """Consume tokens, of which the last may be an end token."""
        if self.error is not None:
            return
        self._consumed += len(token_ids)
        if not self._matcher.consume_tokens(list(token_ids)):
            self.error = self._matcher.get_error() or "the model produced a token the grammar forbids"

    def allowed(self, output: Sequence[int], vocab_size: int) -> Allowed:
        """[vocab_size] bool: whether each token may follow `output`; end tokens only where the grammar may end.

        `output` begins with the consumed tokens; the rest are draft tokens, which are rolled back afterwards. After an
        error, or a draft that the grammar does not allow, all tokens are allowed.
        """
        matcher = self._matcher
        drafted = list(output[self._consumed :])
        taken = matcher.try_consume_tokens(drafted) if drafted and self.error is None else 0
        allowed = None
        if taken == len(drafted) and self.error is None:
            bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
            allowed = np.unpackbits(bits, bitorder="little", count=min(vocab_size, self._tokens)).view(np.bool_)
            if matcher.is_error() or not allowed.any():
                self.error = (
                    matcher.get_error()
                    or "this model's tokens cannot spell what the grammar requires; use another grammar"
                )
        if taken and self.error is None and not matcher.rollback(taken):
            self.error = matcher.get_error()
        if allowed is None or self.error is not None:
            return np.ones(vocab_size, np.bool_)
        if len(allowed) < vocab_size:
            return np.concatenate([allowed, np.zeros(vocab_size - len(allowed), np.bool_)])
        return allowed


class CompiledGrammar:
    """A grammar compiled for one tokenizer. Immutable and thread-safe."""

    def __init__(self, matcher: LLMatcher, tokens: int, grammar: Grammar, passed_over: tuple[str, ...] = ()) -> None:
        self._start = GrammarState(matcher, tokens)
        self.grammar = grammar
        """What it was compiled from."""
        self.passed_over = passed_over
        """Parts of its schemas that are not enforced."""

    def start(self) -> GrammarState:
        return self._start.copy()


class Grammars:
    """LRU cache of compiled grammars for one tokenizer. Thread-safe."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.compile = lru_cache(maxsize=_CACHED)(self._compile)
        """Grammar → CompiledGrammar, usually in milliseconds. Raises RequestRefused if it is invalid or too large."""

    def prepare(self) -> None:
        """Build llguidance's vocabulary now, instead of with the first grammar.

        It holds the GIL meanwhile (0.9 s for 150,000 tokens), so call this before serving. A vocabulary that llguidance
        cannot read is an error only when a grammar is requested.
        """
        with suppress(ValueError):
            _ = self._vocabulary

    def _compile(self, grammar: Grammar) -> CompiledGrammar:
        if len(grammar.source) > MAX_CHARACTERS:
            raise _refused(f"it has {len(grammar.source)} characters; {MAX_CHARACTERS} are allowed")
        source = grammar
        try:
            grammar = _enforceable(grammar)
            matcher = LLMatcher(self._vocabulary, _guidance(grammar), log_level=0, limits=_LIMITS)
        except RecursionError as error:
            raise _refused(str(error)) from None
        except (ValueError, GbnfToLarkError) as error:
            raise _refused(_why(grammar, str(error))) from None
        if matcher.is_error():
            raise _refused(_why(grammar, matcher.get_error()))
        compiled = CompiledGrammar(matcher, self._tokenizer.vocab_size, source, grammar.passed_over)
        start = compiled.start()
        start.allowed((), self._tokenizer.vocab_size)
        if start.error is not None and "NoExtension" in start.error:
            raise _refused("no answer can match it: check for contradictory rules")
        return compiled

    @cached_property
    def _vocabulary(self) -> LLTokenizer:
        return LLTokenizer(_Vocabulary(self._tokenizer), eos_token=sorted(self._tokenizer.eos_ids) or None)  # type: ignore[arg-type]


class _Vocabulary:
    """llguidance's tokenizer interface, over our token bytes, so that masks match the emitted text exactly."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokens = [tokenizer.token_bytes(token_id) for token_id in range(tokenizer.vocab_size)]
        self.special_token_ids = sorted(tokenizer.special_ids)
        if tokenizer.eos_ids:
            self.eos_token_id = min(tokenizer.eos_ids)
        else:
            # llguidance needs an end token. This id is beyond the model's vocabulary, so it is never sampled.
            self.eos_token_id = len(self.tokens)
            self.tokens.append(b"")
            self.special_token_ids.append(self.eos_token_id)
        self._tokenizer = tokenizer

    def __call__(self, text: bytes | str) -> list[int]:
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        return self._tokenizer.encode_continuation(text)


def _enforceable(grammar: Grammar) -> Grammar:
    """Drop the parts of a lenient schema that cannot be enforced. Raises ValueError."""
    if grammar.kind != "json_schema" or not grammar.lenient:
        return grammar
    relaxed = relax(json.loads(grammar.source))
    places = tuple([f"{grammar.param}{place}" for place in relaxed.passed_over])
    return msgspec.structs.replace(grammar, source=json.dumps(relaxed.schema), passed_over=places)


def _why(grammar: Grammar, error: str) -> str:
    """Replace llguidance's error for a strict schema by one that names the places."""
    if grammar.kind != "json_schema" or grammar.lenient:
        return error
    return strict_fault(json.loads(grammar.source)) or error


def _guidance(grammar: Grammar) -> str:
    """The grammar in llguidance's syntax. Raises ValueError."""
    match grammar.kind:
        case "json_schema":
            schema = json.loads(grammar.source)
            rules = json_rules(schema, lenient=grammar.lenient)
            source = _exact_numbers(schema, lenient=grammar.lenient)
            return LLMatcher.grammar_from_json_schema(source, overrides=rules)  # type: ignore[arg-type]
        case "regex":
            return LLMatcher.grammar_from_regex(grammar.source)
        case "choice":
            return LLMatcher.grammar_from_lark("start: " + " | ".join(map(json.dumps, json.loads(grammar.source))))
        case "grammar":
            return LLMatcher.grammar_from_lark(_with_exact_numbers(any_to_lark(grammar.source)))


def json_rules(schema: Any, *, lenient: bool) -> dict[str, Any]:
    """The options of llguidance for a schema."""
    return {"whitespace_pattern": _WHITESPACE, "lenient": lenient, **_escapes(schema)}


def _escapes(schema: Any) -> dict[str, str]:
    r"""The option for the escapes in strings: without `\u00..`, unless control characters may have to be written.

    An additional property could otherwise have a name of `properties`: `"\u0061"` for "a".
    """
    return {"json_allowed_escapes": 'nrbtf\\"' + "u" * bool(_CONTROLS.search(json.dumps(schema)))}


def _exact_numbers(schema: Any, *, lenient: bool) -> str:
    """A schema whose number bounds are enforced exactly. Raises ValueError for those that cannot be, unless lenient."""
    schema = whole_counts(schema)
    if lenient:
        drop_numbers(schema)
    elif fault := next(number_faults(schema), None):
        raise ValueError(f"#{fault.where} cannot be enforced: {fault.why}")
    return json.dumps(rust_patterns(schema))


def _with_exact_numbers(lark: str) -> str:
    """Apply `_exact_numbers` to the schemas within a Lark grammar. Raises ValueError."""
    parts, end = [], 0
    for match in _SCHEMA_IN_LARK.finditer(lark):
        if match.start() < end:
            continue
        try:
            schema, after = json.JSONDecoder().raw_decode(lark, match.end())
        except ValueError as error:
            raise ValueError(f"what follows %json is no JSON: {error}") from None
        lenient = False
        if isinstance(schema, dict):
            given = schema.get("x-guidance")
            rules: dict[str, Any] = _escapes(schema) | (given if isinstance(given, dict) else {})
            schema["x-guidance"] = rules
            lenient = rules.get("lenient") is True
        parts += [lark[end : match.end()], _exact_numbers(schema, lenient=lenient)]
        end = after
    return "".join([*parts, lark[end:]])


def _refused(why: str) -> RequestRefused:
    why = " ".join(why.replace("<non-verbose/>", "").split())
    return RequestRefused("grammar_invalid", f"The grammar for the answer cannot be used: {why.rstrip('.')}.")
