"""Checks upstreams: their URLs, keys, headers and tokenizers, and their use in cascades."""

import re

from config.check.addresses import check_secret_source, check_url
from config.check.api_fields import API_FIELDS
from config.check.names import emitting, known
from config.model.routing import Defer
from config.model.settings import Settings
from config.model.upstreams import UpstreamSettings
from config.problems.problems import Problems
from config.problems.secrets import HEADER_NAME, is_secret_name
from config.problems.source_map import Path

_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_RESERVED = frozenset(
    {"content-length", "content-type", "host", "transfer-encoding", "accept", "accept-encoding", "connection"}
)


def check_upstreams(settings: Settings, problems: Problems) -> None:
    for name, upstream in settings.upstreams.items():
        path: Path = ("upstreams", name)
        if name in settings.engines:
            problems.add_at_key(path, f"an engine has the name '{name}', too", expected="different names")
        _check_urls(path, upstream, problems)
        check_secret_source((*path, "key"), upstream.key, problems)
        _check_headers(path, upstream, problems)
        if upstream.hedge is not None and len(upstream.urls) == 1:
            problems.add(
                (*path, "hedge"), "there is no second address to call", expected="two or more urls", at_key=True
            )
        _check_extra_fields(path, upstream, problems)
        if upstream.tokenizer is not None:
            known(settings, (*path, "tokenizer"), "engine", upstream.tokenizer, problems)


def check_upstream_stages(settings: Settings, problems: Problems) -> None:
    """An upstream returns no margins, so that only a judge can decide about its answer, and cannot verify drafts."""
    for name, cascade in settings.cascades.items():
        small = cascade.stages[0] if cascade.stages else ""
        if small not in settings.upstreams or small in settings.engines:
            continue
        if cascade.judge is not None:
            if cascade.defer != Defer():
                problems.warn_at_key(
                    ("cascades", name, "defer"), f"this has no effect: the upstream '{small}' returns no margins"
                )
        else:
            problems.add(
                ("cascades", name, "stages", 0),
                f"the small stage is the upstream '{small}', which returns no margins",
                expected="an engine, or a judge",
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
        if check_url(here, url, problems) and url.rstrip("/") in {other.rstrip("/") for other in upstream.urls[:index]}:
            problems.add(here, "the address is given twice")


def _check_extra_fields(path: Path, upstream: UpstreamSettings, problems: Problems) -> None:
    for index, name in enumerate(upstream.extra_request_fields):
        here: Path = (*path, "extra_request_fields", index)
        if not _FIELD_NAME.fullmatch(name):
            problems.add(here, f"{name!r} is not the name of a field", expected="letters, digits and _ . -, at most 64")
        elif name in API_FIELDS:
            problems.add(
                here, f"'{name}' is a field of the API, which needs no entry", expected="fields beyond the API"
            )
        elif name in upstream.extra_request_fields[:index]:
            problems.add(here, f"'{name}' is given twice")


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
