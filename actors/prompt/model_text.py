"""From a request's messages or text to the token ids of the model that will answer."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from actors.api.errors import InvalidRequest
from actors.api.request import ChatMessage, ChatPrompt, ParsedBody, Prompt, TextPrompt, TokenPrompt
from actors.kernel.thread_bridge import WorkerPool
from config.model.rerank import RerankSettings
from config.model.settings import ReasoningWord
from engine.errors import ModelError, RequestRefused
from engine.model.sentence_modules import Sentence
from engine.model.vector_model import read_vector_model
from engine.model.vectors import EmbeddingSizes
from engine.sampling.grammar import Grammars
from engine.text.chat_template import ChatTemplate
from engine.text.pair_template import PairTemplate
from engine.text.reasoning import PRESETS, ReasoningMarkers
from engine.text.special_token_escape import escape_special_tokens, pieces
from engine.text.tokenizer import LONG_CHARACTERS, Tokenizer, read_json
from engine.text.tool_calls import ToolStyle
from policies.queueing.turn_queue import WorkFor

TokenIds = tuple[int, ...]
Reading = tuple[str, str, ReasoningMarkers | None]
"""Equal values: every prompt has the same token ids."""
_EFFORT = "reasoning_effort"
_SWITCHES = ("enable_thinking", "thinking")
"""Variables by which chat templates switch reasoning on and off: Qwen's and others', DeepSeek's."""


class ModelText:
    """Tokenizer and chat template of one model. Immutable and thread-safe."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        *,
        digest: str,
        template_digest: str,
        positions: int | None = None,
        sizes: EmbeddingSizes | None = None,
        reasoning: ReasoningMarkers | None = None,
        sentence: Sentence | None = None,
        pair: PairTemplate | None = None,
    ) -> None:
        """Equal `digest`: same tokenizer. Equal `template_digest` and `reasoning`, too: same ids for every prompt.

        `positions`: the model's maximum length in tokens; None: unknown. `sizes`: of its embeddings; None: it generates
        text. `reasoning`: what encloses the reasoning of its answers to messages; None: they have none. `sentence`: the
        prompts of its inputs. `pair`: how two texts become one prompt; None: by the tokenizer.
        """
        self.tokenizer = tokenizer
        self.digest = digest
        self.reading = (digest, template_digest, reasoning)
        self.reasoning = reasoning
        self.sizes = sizes
        self.closing = () if reasoning is None else tuple(tokenizer.encode_continuation(reasoning.close, marked=True))
        """The tokens of the marker that closes the reasoning."""
        self.knows_effort = template.mentions(_EFFORT)
        """Its chat template says how much the model is to reason."""
        self.grammars = Grammars(tokenizer)
        self._template = template
        self._sentence = sentence or Sentence()
        self._pair = pair
        self._positions = positions
        # A normalizer may shorten a text, but by a factor of more than 4 only for degenerate prompts.
        self._max_characters = positions * tokenizer.longest_token_bytes * 4 if positions else None

    @classmethod
    def load(
        cls,
        directory: Path,
        max_model_len: int | None = None,
        reasoning: ReasoningWord = "auto",
        markers: Sequence[str] = (),
        rerank: RerankSettings | None = None,
    ) -> "ModelText":
        """Load from a model directory. The others: from the engine's settings. Raises ModelError."""
        positions: Any = max_model_len
        vectors = read_vector_model(directory, rerank)
        if vectors is not None:
            positions = positions or vectors.max_tokens
        positions = positions or read_json(directory / "config.json").get("max_position_embeddings")
        tokenizer, template = Tokenizer.load(directory, spells=vectors is None), ChatTemplate.load(directory)
        return cls(
            tokenizer,
            template,
            digest=_digest(directory, ("tokenizer.json",)),
            template_digest=_digest(directory, ("chat_template.jinja", "tokenizer_config.json"))
            if vectors is None
            else _digest_of(repr((vectors.sentence.prompts, vectors.sentence.default_prompt, vectors.pair)).encode()),
            positions=positions if isinstance(positions, int) else None,
            sizes=None if vectors is None else vectors.sizes,
            reasoning=_markers(reasoning, markers, tokenizer, template) if vectors is None else None,
            sentence=None if vectors is None else vectors.sentence,
            pair=None if vectors is None else vectors.pair,
        )

    @property
    def tool_style(self) -> ToolStyle:
        """The model's tool call format. Raises RequestRefused if it is an unknown one."""
        style = self._template.tool_style
        if style is None:
            raise RequestRefused(
                "tools_not_supported",
                "This model's chat template writes tool calls in a way that this server cannot read. "
                "Choose another model, or leave 'tools' out.",
            )
        return style

    def encode(
        self,
        prompt: Prompt,
        *,
        special_tokens: bool | None = None,
        generation_prompt: bool = True,
        thinking: bool | None = None,
        effort: str = "",
    ) -> TokenIds:
        """Token ids of a prompt. Raises RequestRefused.

        `special_tokens`: with those that the tokenizer puts around a text; None: around texts only, because a chat
        template writes its own. `generation_prompt`: a conversation ends with the beginning of the next answer.
        `thinking`, `effort`: see `ParsedBody`.
        """
        match prompt:
            case TokenPrompt(token_ids):
                return token_ids
            case TextPrompt(text, None, cut):
                self._check_length(text)
                text = text if cut is None else self.tokenizer.beginning(text, cut)
                text = self._prompt(prompt) + text
                return tuple(self.tokenizer.encode(text, add_special_tokens=special_tokens is not False))
            case TextPrompt():
                return self.encode_pair(prompt)[0]
            case ChatPrompt(messages, tools):
                definitions = [tool.definition for tool in tools.tools] if tools is not None else []
                turns = [{"tools": definitions}, *map(_turn, messages)]
                escaped, mark = escape_special_tokens(turns, self.tokenizer.special_texts)
                asked = partial(
                    self._template.render,
                    escaped[1:],
                    add_generation_prompt=generation_prompt,
                    tools=escaped[0]["tools"],
                )
                rendered = self._rendered(asked, thinking, {_EFFORT: effort} if effort else {})
                self._check_length(rendered)
                first, *others = pieces(rendered, mark)
                ids = self.tokenizer.encode(first, add_special_tokens=bool(special_tokens))
                for piece in others:
                    ids += self.tokenizer.encode_continuation(piece, marked=True)
                return tuple(ids)

    def encode_pair(self, prompt: TextPrompt) -> tuple[TokenIds, int | None]:
        """Token ids of two texts, and where those of the second type begin. Raises RequestRefused."""
        first, second = prompt.text, prompt.second or ""
        self._check_length(first + second)
        second = second if prompt.cut is None else self.tokenizer.beginning(second, prompt.cut)
        if self._pair is not None:
            return tuple(self._pair.encode(self.tokenizer, first, second)), None
        ids, at = self.tokenizer.encode_pair(first, second)
        return tuple(ids), at

    def _prompt(self, asked: TextPrompt) -> str:
        """What is put before a text. Raises RequestRefused: the model has no prompt of the requested name."""
        if self.sizes is None or self.sizes.labels:
            return ""
        prompt = self._sentence.prompt(asked.prompt_name)
        if prompt is None and asked.needs_prompt:
            known = ", ".join(map(repr, self._sentence.prompts)) or "none"
            raise RequestRefused(
                "prompt_name_unknown",
                f"This model has no prompt named {asked.prompt_name!r} for 'prompt_name'; it has: {known}. Leave it "
                "out, and put the prompt into the text.",
                param="prompt_name",
            )
        return prompt or ""

    def _rendered(self, render: Callable[..., str], thinking: bool | None, variables: Mapping[str, Any]) -> str:
        """The chat template's text. If it has no switch, an empty block of reasoning keeps the model from thinking."""
        if thinking is None:
            return render(variables=variables)
        rendered, otherwise = [
            render(variables={**variables, **dict.fromkeys(_SWITCHES, value)}) for value in (thinking, not thinking)
        ]
        markers, has_switch = self.reasoning, rendered != otherwise
        if thinking and markers is None and not has_switch:
            raise RequestRefused(
                "reasoning_not_supported",
                "This model does not reason, as far as its chat template says; choose another, or do not ask for it.",
            )
        if thinking or markers is None:
            return rendered
        if markers.opened_by(rendered):
            return f"{rendered}\n{markers.close}\n\n"
        if not has_switch and self._template.mentions(markers.close):
            return f"{rendered}{markers.open}\n\n{markers.close}\n\n"
        return rendered

    def opens_reasoning(self, prompt: Sequence[int]) -> bool:
        """Whether the chat template has opened the block of the reasoning at the end of these tokens."""
        markers = self.reasoning
        # The longest marker is one token for each of its bytes; white space may follow.
        return markers is not None and markers.opened_by(
            self.tokenizer.decode(prompt[-len(markers.open.encode()) - 8 :])
        )

    def _check_length(self, text: str) -> None:
        """Refuse a prompt that cannot fit, before seconds are spent on encoding it."""
        if self._max_characters is not None and len(text) > self._max_characters:
            raise RequestRefused(
                "context_length_exceeded",
                f"This model's maximum context length is {self._positions} tokens, and the prompt of {len(text)} "
                "characters is longer by far. Shorten the prompt.",
            )


def estimated_tokens(prompt: Prompt) -> int:
    """Estimate without a tokenizer: one token per three bytes, and four more per message."""
    match prompt:
        case TokenPrompt(token_ids):
            return len(token_ids)
        case TextPrompt(text, second):
            return len((text + (second or "")).encode("utf-8", "replace")) // 3 + 1
        case ChatPrompt(messages, tools):
            contents: list[Any] = [(item.content, item.tool_calls, item.reasoning) for item in messages]
            definitions = [tool.definition for tool in tools.tools] if tools is not None else []
            return sum([len(msgspec.json.encode(item)) // 3 + 4 for item in (*contents, *definitions)])


async def encode_prompts(
    text: ModelText, body: ParsedBody, workers: WorkerPool, work_for: WorkFor | None = None
) -> tuple[tuple[TokenIds, int | None], ...]:
    """Token ids of every prompt, and where its second text begins, if it has one of another token type.

    Raises InvalidRequest.
    """
    try:
        if sum(map(characters, body.prompts)) < LONG_CHARACTERS:
            # Longer prompts are encoded in a worker thread (0.3 µs per character), so that streams do not stall.
            return _encode(text, body)
        return await workers.run_in_thread(partial(_encode, text, body), work_for)
    except RequestRefused as refused:
        raise InvalidRequest(refused.message, param=refused.param or body.param, code=refused.code) from None


def _encode(text: ModelText, body: ParsedBody) -> tuple[tuple[TokenIds, int | None], ...]:
    return tuple([
        text.encode_pair(prompt)
        if isinstance(prompt, TextPrompt) and prompt.second is not None
        else (text.encode(prompt, thinking=body.engines_think, effort=body.effort), None)
        for prompt in body.prompts
    ])  # fmt: skip


def _markers(
    word: ReasoningWord, pair: Sequence[str], tokenizer: Tokenizer, template: ChatTemplate
) -> ReasoningMarkers | None:
    """By the engine's settings, else those that the model's files declare. Raises ModelError."""
    if pair:
        hidden = tokenizer.special_ids
        if any(hidden.intersection(tokenizer.encode(each, add_special_tokens=False)) for each in pair):
            raise ModelError("reasoning_markers", "a marker is a special token, which has no text in answers")
        return ReasoningMarkers(*pair)
    if word == "none":
        return None
    if word != "auto":
        return PRESETS[word]
    for markers in PRESETS.values():
        if template.mentions(markers.close) or {markers.open, markers.close} <= tokenizer.added_texts:
            return markers
    return None


def _turn(message: ChatMessage) -> dict[str, Any]:
    """The message for a chat template, which expects absent keys rather than null."""
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in message.tool_calls
    ]
    optional = {
        "name": message.name,
        "reasoning_content": message.reasoning or None,
        "tool_call_id": message.tool_call_id,
        "tool_calls": calls or None,
    }
    given = {name: value for name, value in optional.items() if value is not None}
    return {"role": message.role, "content": message.content, **given}


def characters(prompt: Prompt) -> int:
    """Those that must be read to encode it."""
    match prompt:
        case ChatPrompt(messages, tools):
            return sum([len(message.content) for message in messages]) + (
                sum([len(str(tool.definition)) for tool in tools.tools]) if tools is not None else 0
            )
        case TextPrompt(text, second):
            return len(text) + len(second or "")
        case TokenPrompt():
            return 0


def tokenizer_digest(directory: Path) -> str:
    """Equal for equal tokenizers; "" if the directory has none."""
    return _digest(directory, ("tokenizer.json",)) if (directory / "tokenizer.json").is_file() else ""


def _digest(directory: Path, names: Sequence[str]) -> str:
    paths = [directory / name for name in names]
    return _digest_of(*[path.read_bytes() if path.is_file() else b"" for path in paths])


def _digest_of(*contents: bytes) -> str:
    state = hashlib.sha256()
    for content in contents:
        state.update(len(content).to_bytes(8, "little"))
        state.update(content)
    return state.hexdigest()[:16]
