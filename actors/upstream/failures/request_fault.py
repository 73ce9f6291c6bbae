"""Errors that servers report as wrong settings or as their own, but that something in the request has caused. Pure.

A request with tools to a model that has none gets 404 from OpenRouter, 500 from llama.cpp and 400 from others. Taken
at their status, such errors would let one client's requests open the breaker, which all clients share. So the words
decide, together with what the request contains: an error that calls something unsupported that was not sent is the
operator's.
"""

import http
import re
from collections.abc import Iterator

import msgspec

from actors.api.request import ChatPrompt
from actors.protocol.job import UpstreamCall
from actors.upstream.failures.failure import Failure, rejected

_KINDS = frozenset({"upstream_misconfigured", "upstream_error", "upstream_failed"})
_ACCESS = frozenset({http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN})
"""About the key, whatever the words say."""
_UNSUPPORTED = re.compile(
    r"(?i)unsupported|(not|n't|never|no|that|which)( \w+)? support|not (accept|available|enabled|implemented|allowed)"
    r"|requires|can(not| ?not|'t)? handle"
)
_PARAMETERS = re.compile(r"(?i)requested parameters")
_NAMES = {
    "tools": re.compile(r"(?i)\btools?\b|tool[ _-](choice|use|call)|function[ _-]?call"),
    "media": re.compile(r"(?i)image|audio|video|vision|visual|media|modal|\bfiles?\b|\bpdf|document"),
    "format": re.compile(r"(?i)response[ _]format|json|structured|grammar|guided|schema"),
    "logprobs": re.compile(r"(?i)log[ _-]?prob"),
    "reasoning": re.compile(r"(?i)reasoning|thinking"),
    "completion": re.compile(r"(?i)\bchat model|v1/completions|completions? (endpoint|api)"),
    "chat": re.compile(r"(?i)not a chat model|support\w* (\w+ ){0,2}(v1/)?chat"),
}
"""How servers name what a request may contain."""


def blamed(failure: Failure, call: UpstreamCall) -> Failure:
    """The failure as the request's fault if it is that, else unchanged. Its text may be redacted."""
    if failure.kind not in _KINDS or failure.status in _ACCESS:
        return failure
    sent = set(_contents(call))
    words = f"{failure.upstream_error.code} {failure.upstream_error.param or ''} {failure.upstream_error.message}"
    named = bool(_UNSUPPORTED.search(words)) and any(_NAMES[each].search(words) for each in sent)
    optional = sent - {"chat", "completion"}
    if failure.status == http.HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
        # Without media the body is JSON, which a server of this API takes.
        named = named or "media" in sent
    if not (named or (optional and _PARAMETERS.search(words))):
        return failure
    return msgspec.structs.replace(rejected(failure.status), upstream_error=failure.upstream_error)


def _contents(call: UpstreamCall) -> Iterator[str]:
    if isinstance(call.prompt, ChatPrompt):
        yield "chat"
        if call.prompt.media:
            yield "media"
        if call.prompt.tools is not None or "tools" in call.written:
            yield "tools"
    else:
        yield "completion"
    if call.grammar is not None or "response_format" in call.written:
        yield "format"
    if call.params.logprobs is not None:
        yield "logprobs"
    if "reasoning_effort" in call.written:
        yield "reasoning"
