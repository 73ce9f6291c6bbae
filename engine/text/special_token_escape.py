"""Escape special tokens in messages, so that clients cannot inject turns by writing their text.

The rendered prompt is one string in which only the template's own special tokens may be encoded as such. So special
tokens in messages are split by a mark before rendering, and the rendered text is encoded in pieces between the marks.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from engine.errors import RequestRefused

_MARKS = [chr(code) for code in range(0xFDD0, 0xFDF0)]
"""Unicode noncharacters, reserved for internal use."""


def escape_special_tokens(
    messages: Sequence[Mapping[str, Any]], special: Collection[str]
) -> tuple[Sequence[Mapping[str, Any]], str]:
    """The messages with a mark inside every special token in their texts, and the mark; "" if there is none.

    Raises RequestRefused: the messages contain all possible marks.
    """
    # All texts are searched at once. A match across two texts is split in neither, so it does no harm.
    texts = "\n".join(text for message in messages for text in _texts(message))
    spelled = [token for token in special if token in texts]
    if not spelled:
        return messages, ""
    mark = next((mark for mark in _MARKS if mark not in texts), None)
    if mark is None:
        raise RequestRefused(
            "reserved_characters", "The messages hold all of U+FDD0 to U+FDEF, which are no characters; remove them."
        )
    # Longest first: a token within a longer one is split with it.
    spelled.sort(key=len, reverse=True)
    return [{key: _broken(value, spelled, mark) for key, value in message.items()} for message in messages], mark


def pieces(rendered: str, mark: str) -> list[str]:
    """Split the rendered text at the marks, to be encoded piece by piece."""
    return rendered.split(mark) if mark else [rendered]


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for name, item in value.items():
                yield name
                yield from _texts(item)
        case list() | tuple():
            for item in value:
                yield from _texts(item)


def _broken(value: Any, special: Sequence[str], mark: str) -> Any:
    if isinstance(value, Mapping):
        return {_broken(name, special, mark): _broken(item, special, mark) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_broken(item, special, mark) for item in value]
    if not isinstance(value, str):
        return value
    for token in special:
        value = value.replace(token, token[0] + mark + token[1:])
    return value
