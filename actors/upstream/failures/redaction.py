"""Redaction of an upstream's error text: shortened, without keys, addresses and header values of the gateway. Pure.

An error may quote the request. The client may read its own prompt; a log must not contain it.
"""

import re
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl, quote, urlsplit

import msgspec

from actors.api.content import MediaPart
from actors.api.request import ChatPrompt, Prompt, TextPrompt
from policies.fallback.verdict import UpstreamError

MAX_CHARACTERS = 500
_HIDDEN = "[hidden]"
_MIN_SECRET = 4
"""Minimum length of a secret that is searched for: shorter ones such as "1" would match everywhere."""
_ORDINARY = re.compile(r".{0,7}|[A-Z]?[a-z]+|[A-Z]+", re.DOTALL)
"""Short, or one word: found in messages that have nothing to do with it."""
_SECRET_NAME = re.compile(r"(?i)auth|key|token|secret|cookie|password|credential|\bsig")
"""Names of headers and of a query's fields whose values are secret, however short."""
_LEFT_OUT = "[…]"
_QUOTE = 24
"""Minimum characters that a text must share with the prompt to count as a quote."""
_MAX_COMPARED = 65_536
"""Maximum characters of a prompt that is searched for quotes."""
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
    """Hides the API key, the values of configured headers, and the called address.

    An ordinary word (a team's name in a header, a host named "model") is no secret on its own: hidden, it would be
    missing from every message that happens to contain it.
    """

    def __init__(self, headers: Mapping[str, str], url: str, *, key: str = "") -> None:
        """`headers`: the configured ones; `url`: the called address."""
        parts = urlsplit(url)
        named = [*headers.items(), *parse_qsl(parts.query), ("key", key), ("password", parts.password or "")]
        values = {url, url.rstrip("/"), parts.netloc, parts.hostname or ""}
        for _, value in named:
            values |= {value, quote(value, safe=""), *value.split()}
        secrets = {value for value in values if not _ORDINARY.fullmatch(value)}
        for name, value in named:
            if _SECRET_NAME.search(name):
                # After the name of a scheme, such as "Bearer".
                secrets |= {value, *value.split()[-1:]}
        searched = sorted((value for value in secrets if len(value) >= _MIN_SECRET), key=len, reverse=True)
        self._values = re.compile("|".join(map(re.escape, searched)), re.IGNORECASE) if searched else None

    def clean(self, error: UpstreamError) -> UpstreamError:
        """The redacted text, fit for a client."""
        words = self.clean_text(error.message)
        code = error.code if self._hide(error.code) == error.code else ""
        param = error.param if error.param is not None and self._hide(error.param) == error.param else None
        return UpstreamError(code=code, message=words, log_message=words, param=param)

    def clean_text(self, text: str) -> str:
        """The redacted text."""
        return _short(self._hide(text))

    def _hide(self, text: str) -> str:
        if self._values is not None:
            text = self._values.sub(_HIDDEN, text)
        return _KEYS.sub(_HIDDEN, _ADDRESSES.sub(_HIDDEN, text))


def without_prompt_quotes(error: UpstreamError, prompt: Prompt) -> UpstreamError:
    """Set `log_message`, the text for logs, to the text without quotes of the prompt."""
    texts = list(_texts(prompt))
    if sum(map(len, texts)) > _MAX_COMPARED:
        # Searching longer prompts would block the event loop for too long.
        return msgspec.structs.replace(error, log_message="")
    log_message = error.message
    for text in texts:
        log_message = _without(log_message, " ".join(text.split()))
    return msgspec.structs.replace(error, log_message=log_message)


def _texts(prompt: Prompt) -> Iterator[str]:
    match prompt:
        case TextPrompt(text):
            yield text
        case ChatPrompt(messages):
            for message in messages:
                yield message.content
                yield from (part.url or part.data for part in message.parts if isinstance(part, MediaPart))
                yield from (str(value) for call in message.tool_calls for value in call.arguments.values())


def _without(words: str, text: str) -> str:
    """Replace runs of at least 24 characters of `text` by an ellipsis, or all of `text` if it is shorter."""
    if _MIN_SECRET <= len(text) < _QUOTE:
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
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"
