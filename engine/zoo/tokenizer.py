"""The tokenizer of the embedded models: byte-level BPE, trained on generated questions.

Digits, consecutive capitals and quoted lower-case words have one token per character, so that sums and string tasks see
their elements. Other words, and JSON keys with quotes and colon (`"age":`), may become one token.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tokenizers import Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.trainers import BpeTrainer

from engine.zoo.smalltalk import SMALLTALK, SYSTEM_LINES
from engine.zoo.tasks import TASKS, draw

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
    r"| [a-z]+"  # a word after a space; a quoted word has none and falls through to single letters
    r"|[A-Za-z]|[0-9]"
    r'| ?(?!"[a-z_]+":)[^\sA-Za-z0-9]'  # punctuation, but not the opening quote of a JSON key
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
"""Roles other than system, developer and assistant (such as tool) are rendered as user."""


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
    """Train the tokenizer; deterministic."""
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
    """The id of a special token. Raises KeyError."""
    token_id = tokenizer.token_to_id(token)
    if token_id is None:
        raise KeyError(token)
    return token_id
