"""The zoo's one tokenizer: byte-level BPE, so that any text round-trips, trained on generated questions.

Digits, capitals that stand together and quoted lower-case words are spelled out, one token a character: sums and
string work then see the parts that they are about. Other words, and a JSON key with its quotes and colon
(`"age":`), may become one token.
"""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING

from tokenizers import Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.trainers import BpeTrainer

from engine.zoo.smalltalk import SMALLTALK, SYSTEM_LINES
from engine.zoo.tasks import TASKS, draw

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAD, BOS, END, SYSTEM, USER, ASSISTANT = SPECIALS = (
    "<|pad|>",
    "<|bos|>",
    "<|end|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
)
VOCABULARY = 832
_SEED = 20
_QUESTIONS_A_TASK = 4000

_WORDS = (
    r'"[a-z_]+":'  # a JSON key
    r"| ?[A-Z][a-z]+"  # a capitalised word
    r"| [a-z]+"  # a word after a space; a quoted one has none and falls through to single letters
    r"|[A-Za-z]|[0-9]"
    r'| ?(?!"[a-z_]+":)[^\sA-Za-z0-9]'  # a mark, but never the opening quote of a JSON key
    r"|\s"
)

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% set role = message['role'] %}"
    "{{ '<|assistant|>' if role == 'assistant' else '<|system|>' if role in ['system', 'developer'] else '<|user|>' }}"
    "{% if message['content'] is string %}{{ message['content'] | trim }}"
    "{% elif message['content'] %}{% for part in message['content'] %}"
    "{{ part['text'] if part['text'] is defined else '' }}"
    "{% endfor %}{% endif %}"
    "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""Any role other than system, developer and assistant (a tool's, say) is read as the user's."""


def _texts() -> Iterator[str]:
    rng = Random(_SEED)  # noqa: S311 - data, not secrets
    for task in TASKS:
        for _ in range(_QUESTIONS_A_TASK):
            question = draw(rng, task, held_out=False)
            yield question.prompt
            yield question.answer
    for prompt, answer in SMALLTALK:
        yield from (prompt, answer) * 100
    for line in SYSTEM_LINES:
        yield from [line] * 100


def train_tokenizer() -> Tokenizer:
    """The tokenizer, always the same one."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = Sequence(
        [Split(Regex(_WORDS), behavior="isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, max_positions: int) -> None:
    """Write `tokenizer.json`, and `tokenizer_config.json` with the chat template."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": END,
        "pad_token": PAD,
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_positions,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def special_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a special token."""
    found = tokenizer.token_to_id(token)
    if found is None:
        raise KeyError(token)
    return found


def render(turns: list[tuple[str, str]]) -> str:
    """A conversation as the chat template writes it, from (role, text) pairs; roles are system, user, assistant."""
    return BOS + "".join(f"<|{role}|>{text}{END}" for role, text in turns)
