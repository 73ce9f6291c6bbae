"""Reads recorded traffic for replay: arrivals, lengths and features, but no texts.

Three formats, recognised by their first line: Azure's CSV (TIMESTAMP, ContextTokens, GeneratedTokens), Mooncake's JSONL
(timestamp in ms, input_length, output_length, hash_ids), and Penstock's own recording: a `TraceHead` on the first line,
then one `TraceRequest` per line, in any order, since a line is written when its request ends.
"""

import csv
import datetime as dt
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import msgspec

from config.model.conditions import Has
from config.model.settings import Settings
from config.tenants import known_tenants
from policies.model.features import Features, Requirements, described_requirements

TraceFormat = Literal["azure", "mooncake", "penstock"]

_MOONCAKE_BLOCK = 512
_AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_MOST_BAD_LINES = 20
_FORMATS = (
    "expected Azure's CSV (TIMESTAMP,ContextTokens,GeneratedTokens), Mooncake's JSONL (timestamp, input_length, "
    "output_length, hash_ids) or a recording made with `penstock serve --record`"
)


class BadTrace(Exception):  # noqa: N818  (describes the file)
    """The file cannot be read as a trace; the text names the line and the reason."""


class TraceHead(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line of a Penstock recording."""

    penstock_trace: Literal[1]
    started: float
    """Seconds since 1970, UTC; arrivals are relative to it."""
    prefix_block: int = 16
    """Prompt tokens per entry of `TraceRequest.prefix`."""


class TraceRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One request. What the trace does not contain keeps its default."""

    at: float
    """Arrival, seconds since the start of the trace."""
    prompt_tokens: int
    output_tokens: int
    """Generated tokens of one choice; at least 1."""
    wall_at: float = 0.0
    """Arrival, seconds since 1970, UTC, for conditions on the time of day; 0: unknown."""
    model: str = ""
    """The model name in the request; "": the policy's first."""
    tenant: str = ""
    """"": the policy's first, or the anonymous one."""
    tier: str = ""
    """"": the tenant's."""
    tags: tuple[str, ...] = ()
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    """Those that the policy of the recording used, by name in lower case."""
    path: str = "/v1/chat/completions"
    has: tuple[Has, ...] = ()
    max_tokens: int = 0
    """0: the request had no limit."""
    choices: int = 1
    turn: int = 1
    complexity: float | None = None
    code: float | None = None
    language: str | None = None
    priors: dict[str, tuple[float, float]] = msgspec.field(default_factory=dict)
    """By cascade whose calibration has a prompt model, as the recording server computed them."""
    conversation: str = ""
    user: str = ""
    requirements: Requirements | None = None
    """None: as far as `path` and `has` tell them."""
    prefix: tuple[int, ...] = ()
    """One id per full block of `prefix_block` prompt tokens: prompts share as many blocks as leading ids are equal."""
    prefix_block: int = 0
    """0: the prompt's tokens are unknown; it shares none with another request."""
    margins: tuple[float, ...] = ()
    """Margins in nats of the tokens of the small model's first choice. Those of an answer that escalated end with the
    margin that decided it."""
    rung: str = ""
    """The rung that answered; "": unknown or none."""
    ttft_s: float | None = None
    """From the arrival to the first content, measured by the server; None: unknown, or there was no content."""


_Parse = Callable[[str], TraceRequest]
"""Of one line; raises BadTrace without the line's number."""


def read_trace(path: Path) -> tuple[TraceRequest, ...]:
    """All requests in order of arrival, the first at 0 s. Raises BadTrace with every bad line, up to a number."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadTrace(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise BadTrace(f"{path} is no trace: byte {error.start} is not UTF-8") from None
    lines = text.split("\n")  # other line breaks may stand inside JSON strings
    kind = trace_format(lines[0])
    if kind is None:
        raise BadTrace(f"{path}:1: this is no trace; {_FORMATS}")
    numbered, parse = {"azure": _azure, "mooncake": _mooncake, "penstock": _penstock}[kind](path, lines)
    requests = sorted(_read_lines(path, numbered, parse), key=lambda request: request.at)
    if not requests:
        raise BadTrace(f"{path} holds no request")
    begin = requests[0].at
    return tuple([msgspec.structs.replace(request, at=request.at - begin) for request in requests])


def trace_format(first_line: str) -> TraceFormat | None:
    """The format of a file with this first line; None if it is not a trace."""
    if first_line.startswith("{"):
        try:
            keys = msgspec.json.decode(first_line, type=dict[str, msgspec.Raw]).keys()
        except msgspec.DecodeError:
            return None
        if "penstock_trace" in keys:
            return "penstock"
        return "mooncake" if {"timestamp", "input_length"} <= keys else None
    return "azure" if set(_AZURE_COLUMNS) <= {name.strip() for name in first_line.split(",")} else None


def trace_features(request: TraceRequest, settings: Settings, number: int = 0) -> Features:
    """The request's features under these settings; what the trace does not contain gets a neutral value.

    `number` serves as the request id for experiments. Raises BadTrace for a tenant, tier or model that the settings do
    not have.
    """
    tenants = known_tenants(settings)
    tenant = request.tenant or next(iter(settings.tenants), next(iter(tenants)))
    if tenant not in tenants:
        raise BadTrace(f"the trace names the tenant '{tenant}', and the policy has only {', '.join(tenants)}")
    tier, model = request.tier or tenants[tenant].tier, request.model or next(iter(settings.models))
    for what, name, known in (("names the tier", tier, settings.tiers), ("asks for the model", model, settings.models)):
        if name not in known:
            raise BadTrace(f"the trace {what} '{name}', and the policy has only {', '.join(known)}")
    return Features(
        model=model,
        tenant=tenant,
        tier=tier,
        tags=frozenset(request.tags),
        headers=request.headers,
        path=request.path,
        has=frozenset(request.has),
        prompt_tokens=request.prompt_tokens,
        max_tokens=request.max_tokens,
        choices=request.choices,
        turn=request.turn,
        complexity=request.complexity or 0.0,
        code=request.code or 0.0,
        language=request.language or "und",
        priors=request.priors,
        at=request.wall_at,
        requirements=request.requirements or described_requirements(request.path, request.has),
        request=f"trace-{number}",
        conversation=request.conversation,
        user=request.user,
    )


def _read_lines(path: Path, numbered: Iterable[tuple[int, str]], parse: _Parse) -> list[TraceRequest]:
    """Raises BadTrace."""
    found: list[TraceRequest] = []
    bad: list[str] = []
    for number, line in numbered:
        if not line.strip():
            continue
        try:
            found.append(_checked(parse(line)))
        except BadTrace as error:
            bad.append(f"{path}:{number}: {error}")
            if len(bad) == _MOST_BAD_LINES:
                bad.append(f"{path}: there may be more bad lines after these {_MOST_BAD_LINES}")
                break
    if bad:
        raise BadTrace("\n".join(bad))
    return found


def _azure(path: Path, lines: list[str]) -> tuple[Iterable[tuple[int, str]], _Parse]:
    columns = [name.strip() for name in lines[0].split(",")]
    when, tokens_in, tokens_out = (columns.index(name) for name in _AZURE_COLUMNS)

    def parse(line: str) -> TraceRequest:
        row = next(csv.reader([line]))
        try:
            stamp = dt.datetime.fromisoformat(row[when])
            prompt, output = int(row[tokens_in]), int(row[tokens_out])
        except (ValueError, IndexError):
            raise BadTrace(
                f"{','.join(row)[:80]!r} is no row of Azure's trace; expected a time stamp and two whole numbers"
            ) from None
        # Azure's time stamps have no zone and are UTC.
        wall = (stamp if stamp.tzinfo is not None else stamp.replace(tzinfo=dt.UTC)).timestamp()
        return TraceRequest(at=wall, wall_at=wall, prompt_tokens=prompt, output_tokens=output)

    return enumerate(lines[1:], 2), parse


class _MooncakeLine(msgspec.Struct, frozen=True):
    timestamp: float
    input_length: int
    output_length: int
    hash_ids: tuple[int, ...] = ()


def _mooncake(path: Path, lines: list[str]) -> tuple[Iterable[tuple[int, str]], _Parse]:
    decode = msgspec.json.Decoder(_MooncakeLine).decode

    def parse(line: str) -> TraceRequest:
        try:
            row = decode(line)
        except msgspec.DecodeError as error:
            raise BadTrace(str(error)) from None
        return TraceRequest(
            at=row.timestamp / 1000,
            prompt_tokens=row.input_length,
            output_tokens=row.output_length,
            prefix=row.hash_ids,
            prefix_block=_MOONCAKE_BLOCK if row.hash_ids else 0,
        )

    return enumerate(lines, 1), parse


def _penstock(path: Path, lines: list[str]) -> tuple[Iterable[tuple[int, str]], _Parse]:
    try:
        head = msgspec.json.decode(lines[0], type=TraceHead)
    except msgspec.DecodeError as error:
        raise BadTrace(f"{path}:1: {error}") from None
    decode = msgspec.json.Decoder(TraceRequest).decode

    def parse(line: str) -> TraceRequest:
        try:
            recorded = decode(line)
        except msgspec.DecodeError as error:
            raise BadTrace(str(error)) from None
        return msgspec.structs.replace(
            recorded, wall_at=head.started + recorded.at, prefix_block=head.prefix_block if recorded.prefix else 0
        )

    # If the last line has no line break, the server may have been killed while it wrote it.
    end = len(lines) if _is_json(lines[-1]) else len(lines) - 1
    return enumerate(lines[1:end], 2), parse


def _is_json(line: str) -> bool:
    try:
        msgspec.json.decode(line)
    except msgspec.DecodeError:
        return False
    return True


def _checked(request: TraceRequest) -> TraceRequest:
    """The request, with at least one output token. Raises BadTrace for impossible numbers."""
    for name, value, minimum in (
        ("arrives", request.at, 0),
        ("prompt tokens", request.prompt_tokens, 1),
        ("choices", request.choices, 1),
        ("output tokens", request.output_tokens, 0),
        ("max_tokens", request.max_tokens, 0),
    ):
        if not minimum <= value < float("inf"):
            raise BadTrace(f"{name} {value:g}: expected at least {minimum}")
    # A refused request or an empty answer is replayed with one token, the minimum that an engine generates.
    return request if request.output_tokens else msgspec.structs.replace(request, output_tokens=1)
