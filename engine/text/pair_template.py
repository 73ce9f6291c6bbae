"""Two texts in a model's own format, for models that compare them by answering a question."""

import re
from typing import NamedTuple

from config.model.rerank import PLACES
from engine.text.special_token_escape import escape_special_tokens, pieces
from engine.text.tokenizer import Tokenizer

_PLACE = re.compile("|".join(map(re.escape, PLACES)))


class PairTemplate(NamedTuple):
    """A template with places for an instruction and two texts."""

    template: str
    instruction: str

    def encode(self, tokenizer: Tokenizer, query: str, document: str) -> list[int]:
        """Token ids of the whole prompt. Special tokens are those of the template only.

        Raises RequestRefused: the texts contain all characters that could mark their special tokens.
        """
        (texts,), mark = escape_special_tokens([{"query": query, "document": document}], tokenizer.special_texts)
        filled = dict(zip(PLACES, (self.instruction, texts["query"], texts["document"]), strict=True))
        rendered = _PLACE.sub(lambda place: filled[place.group()], self.template)
        first, *others = pieces(rendered, mark)
        ids = tokenizer.encode(first, add_special_tokens=False)
        for piece in others:
            ids += tokenizer.encode_continuation(piece, marked=True)
        return ids
