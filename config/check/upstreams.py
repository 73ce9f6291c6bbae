"""Checks upstreams: their URLs, keys, headers and tokenizers, and their use in cascades."""

import re
from urllib.parse import parse_qsl, urlsplit

from config.check.names import emitting, known
from config.model.settings import Settings
from config.model.upstreams import UpstreamSettings
from config.problems.problems import Problems
from config.problems.secrets import HEADER_NAME, is_secret_name
from config.problems.source_map import Path

_RESERVED = frozenset(
    {"content-length", "content-type", "host", "transfer-encoding", "accept", "accept-encoding", "connection"}
)
_SIGNATURES = frozenset({"sig", "signature", "code"})
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_upstreams(settings: Settings, problems: Problems) -> None:
    for name, upstream in settings.upstreams.items():
        path: Path = ("upstreams", name)
        if name in settings.engines:
            problems.add_at_key(path, f"an engine has the name '{name}', too", expected="different names")
        _check_urls(path, upstream, problems)
        _check_key(path, upstream, problems)
        _check_headers(path, upstream, problems)
        if upstream.hedge is not None and len(upstream.urls) == 1:
            problems.add(
                (*path, "hedge"), "there is no second address to call", expected="two or more urls", at_key=True
            )
        if upstream.tokenizer is not None:
            known(settings, (*path, "tokenizer"), "engine", upstream.tokenizer, problems)


def check_upstream_stages(settings: Settings, problems: Problems) -> None:
    """An upstream cannot be a small stage, because it returns no margins, and cannot verify drafts."""
    for name, cascade in settings.cascades.items():
        small = cascade.stages[0] if cascade.stages else ""
        if small in settings.upstreams and small not in settings.engines:
            problems.add(
                ("cascades", name, "stages", 0),
                f"the small stage is the upstream '{small}', which returns no margins",
                expected="an engine",
            )
    for path, cascade in emitting(settings):
        large = cascade.stages[-1] if cascade.stages else ""
        if cascade.emit.mode == "verified" and large in settings.upstreams:
            problems.add(
                (*path, "emit", "mode"),
                f"the upstream '{large}' cannot verify a draft",
                expected="gate, or window, or an engine as the large stage",
            )


def _check_urls(path: Path, upstream: UpstreamSettings, problems: Problems) -> None:
    if not upstream.urls:
        problems.add((*path, "urls"), "there is no address", expected='urls = ["https://host/v1"]')
    for index, url in enumerate(upstream.urls):
        here: Path = (*path, "urls", index)
        expected = "http:// or https://, a host, and a path such as /v1"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            problems.add(here, "this is not an address", expected=expected)
            continue
        if (
            parts.scheme not in {"http", "https"}
            or not parts.hostname
            or port == 0
            or not url.isprintable()
            or " " in url
        ):
            problems.add(here, "this is not an address", expected=expected)
        elif parts.username is not None or parts.password is not None:
            problems.add(
                here, "an address may not contain a user or password", expected="key = { env = ... }, or a header"
            )
        elif any(is_secret_name(name) or name.lower() in _SIGNATURES for name, _ in parse_qsl(parts.query)):
            problems.add(here, "an address may not contain a key", expected="key = { env = ... }, and key_header")
        elif parts.fragment:
            problems.add(here, "an address may not contain a '#'", expected=expected)
        elif url.rstrip("/") in {other.rstrip("/") for other in upstream.urls[:index]}:
            problems.add(here, "the address is given twice")


def _check_key(path: Path, upstream: UpstreamSettings, problems: Problems) -> None:
    key = upstream.key
    if key is None:
        return
    if (key.env is None) == (key.file is None):
        got = "neither is given" if key.env is None else "both are given"
        problems.add((*path, "key"), f"a key is in exactly one of 'env' and 'file'; {got}")
    elif key.env is not None and not _VARIABLE.fullmatch(key.env):
        # It may be the key itself, so the message does not quote it.
        problems.add(
            (*path, "key", "env"), "this is not the name of an environment variable", expected="its name, not the key"
        )


def _check_headers(path: Path, upstream: UpstreamSettings, problems: Problems) -> None:
    if not HEADER_NAME.fullmatch(upstream.key_header) or upstream.key_header.lower() in _RESERVED:
        problems.add((*path, "key_header"), f"'{upstream.key_header}' cannot carry a key", expected="a header's name")
    for name, value in upstream.headers.items():
        here: Path = (*path, "headers", name)
        if not HEADER_NAME.fullmatch(name):
            problems.add_at_key(here, "this is not the name of a header")
        elif name.lower() in _RESERVED:
            problems.add_at_key(here, f"the header '{name}' is set by the gateway")
        elif name.lower() in {"authorization", upstream.key_header.lower()}:
            problems.add_at_key(here, "a key must not be in the file", expected="key = { env = ... }")
        elif is_secret_name(name):
            problems.warn(
                here, "a key must not be in the file", expected=f'key = {{ env = ... }}, key_header = "{name}"'
            )
        elif not all(" " <= character <= "~" or character == "\t" for character in value):
            problems.add(here, "the value of a header must be printable ASCII on one line")
