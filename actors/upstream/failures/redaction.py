"""What an upstream has said, fit for others: short, and without keys, addresses and headers of ours. Pure.

An error may quote what it was sent. A client may read its own prompt again; a log may not hold it.
"""

import re
from collections.abc import Iterable, Iterator
from urllib.parse import parse_qsl, quote, urlsplit

import msgspec

from actors.api.request import ChatPrompt, Prompt, TextPrompt
from policies.fallback.verdict import Said

MOST_CHARACTERS = 500
_HIDDEN = "[hidden]"
_SHORTEST = 4
"""Of a value that is looked for: "1" would be found everywhere."""
_LEFT_OUT = "[…]"
_QUOTE = 24
"""Characters: a run of so many that is also in the prompt is a quote of it."""
_MOST_COMPARED = 65_536
"""Characters of a prompt."""
_KEYS = re.compile(
    r"(?i)\b(?:bearer\s+\S+"
    r"|(?:sk|pk|rk|gsk|xai|hf|nvapi|pplx|fw|tgp|r8|org|proj)[-_][\w*.…-]{6,}"
    r"|AIza[\w-]{10,}|eyJ[\w-]{8,}(?:\.[\w-]+)*"
    r"|(?=[a-z0-9]*\d)(?=[a-z0-9]*[a-z])[a-z0-9]{28,})"
)
_ADDRESSES = re.compile(
    r"(?i)\b[a-z][a-z0-9+.-]{1,15}://[^\s'\"<>)]+"
    r"|\b(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?\b"
    r"|\[(?=[^\]]*:)[0-9a-f:]{3,45}\](?::\d{1,5})?"
    r"|\b(?:localhost|(?:[a-z0-9-]+\.)+[a-z]{2,24}):\d{1,5}\b"
    r"|\b(?:[a-z0-9-]+\.)+(?:internal|local|lan|corp|svc|intranet)\b(?::\d{1,5})?"
)


class Redactor:
    """`secrets`: our key and our headers' values; `url`: where the call went."""

    def __init__(self, secrets: Iterable[str], url: str) -> None:
        parts = urlsplit(url)
        values = {url, url.rstrip("/"), parts.netloc, parts.hostname or ""}
        values |= {value for _, value in parse_qsl(parts.query)}
        for secret in secrets:
            values |= {secret, quote(secret, safe=""), *secret.split()}
        found = sorted((each for each in values if len(each) >= _SHORTEST), key=len, reverse=True)
        self._values = re.compile("|".join(map(re.escape, found)), re.IGNORECASE) if found else None

    def clean(self, said: Said) -> Said:
        """The same, fit for a client."""
        words = _short(self._hide(said.words))
        code = said.code if self._hide(said.code) == said.code else ""
        param = said.param if said.param is not None and self._hide(said.param) == said.param else None
        return Said(code=code, words=words, noted=words, param=param)

    def _hide(self, text: str) -> str:
        if self._values is not None:
            text = self._values.sub(_HIDDEN, text)
        return _KEYS.sub(_HIDDEN, _ADDRESSES.sub(_HIDDEN, text))


def unquoted(said: Said, prompt: Prompt) -> Said:
    """The same, with words for logs that repeat nothing of the prompt."""
    texts = list(_texts(prompt))
    if sum(map(len, texts)) > _MOST_COMPARED:
        # To look for quotes takes time, and it is the event loop's.
        return msgspec.structs.replace(said, noted="")
    noted = said.words
    for text in texts:
        noted = _without(noted, " ".join(text.split()))
    return msgspec.structs.replace(said, noted=noted)


def _texts(prompt: Prompt) -> Iterator[str]:
    match prompt:
        case TextPrompt(text):
            yield text
        case ChatPrompt(messages):
            for message in messages:
                yield message.content
                yield from (str(value) for call in message.tool_calls for value in call.arguments.values())


def _without(words: str, text: str) -> str:
    """Longer runs of `text`, or all of it if it is short, are left out."""
    if _SHORTEST <= len(text) < _QUOTE:
        return words.replace(text, _LEFT_OUT)
    half = _QUOTE // 2
    at = 0
    while at + half <= len(words):
        if words[at : at + half] not in text:
            at += half
            continue
        start, end = at, at + half
        while start > 0 and words[start - 1 : end] in text:
            start -= 1
        while end < len(words) and words[start : end + 1] in text:
            end += 1
        if end - start < _QUOTE - 1:
            at += half
            continue
        words = f"{words[:start]}{_LEFT_OUT}{words[end:]}"
        at = start + len(_LEFT_OUT)
    return words


def _short(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"
