"""A request described on the command line: by a body as clients send it, by flags, or by both.

Where both say something, the flags have the last word.
"""

import argparse
import time
from pathlib import Path
from typing import Any, get_args

import msgspec

from actors.api.errors import Refusal
from actors.api.request import Credentials, InferenceRequest, ParsedBody
from actors.prompt.model_text import ModelText
from actors.routing.features import features_of, last_user_text
from config.model.conditions import BreakerStateName
from config.model.expectations import GivenLoad, GivenRequest
from config.model.settings import ServerSettings
from config.model.units import parse_duration
from config.problems.problems import nearest
from engine.errors import EngineError
from engine.model.encoder_config import is_encoder
from gateway.cli.policy.request_flags import LOAD_KEYS
from gateway.endpoints.completions import CHAT, COMPLETION
from gateway.endpoints.embeddings import parse_embedding
from gateway.errors import CliError
from policies.authoring.decision import Decider
from policies.authoring.situation import Situation, situation_of
from policies.model.features import Features
from policies.routing.complexity import Term, complexity_terms

_COMPLETIONS = "/v1/completions"
_EMBEDDINGS = "/v1/embeddings"
_CHARACTERS_PER_TOKEN = 4
# By flag: the features that it sets.
_SETS: dict[str, tuple[str, ...]] = {
    "model": ("model",),
    "tenant": ("tenant", "tier"),
    "tier": ("tier",),
    "tag": ("tags",),
    "header": ("headers",),
    "path": ("path",),
    "has": ("has",),
    "text": ("complexity", "code", "language"),
    "prompt_tokens": ("prompt_tokens",),
    "max_tokens": ("max_tokens",),
    "turn": ("turn",),
    "complexity": ("complexity",),
    "code": ("code",),
    "language": ("language",),
    "budget_used": ("budget_used",),
    "unit": ("request", "conversation", "user"),
}


class Described(msgspec.Struct, frozen=True):
    """What the command line says."""

    situation: Situation
    terms: tuple[Term, ...] | None
    """Of the complexity; None: it was given as a number, or there is no text."""
    notes: tuple[str, ...]


def described(arguments: argparse.Namespace, decider: Decider) -> Described:
    """The situation. Raises CliError."""
    given = _given(arguments, decider)
    try:
        situation = situation_of(given, decider.settings, at=time.time())
    except ValueError as error:
        raise CliError(f"--time: {error}", 2) from None
    text = given.text
    terms = None if text is None or given.complexity is not None else complexity_terms(text, given.turn)
    if arguments.request is None:
        return Described(situation, terms, ())
    asked, notes = _read_body(arguments, decider, situation)
    features = situation.features
    told = {feature for flag, sets in _SETS.items() if getattr(arguments, flag) is not None for feature in sets}
    if arguments.path is None:
        told.discard("path")
    merged = msgspec.structs.replace(asked.features, at=features.at, **{name: getattr(features, name) for name in told})
    if given.text is None and given.complexity is None:
        terms = asked.terms
    return Described(Situation(merged, situation.load), terms, notes)


def _given(arguments: argparse.Namespace, decider: Decider) -> GivenRequest:
    settings = decider.settings
    _known("model", arguments.model and arguments.model.partition(":")[0], settings.models)
    _known("tenant", arguments.tenant, decider.tenants)
    _known("tier", arguments.tier, settings.tiers)
    for name in arguments.busy or ():
        _known("busy", name, settings.cascades)
    for name in arguments.rolled_back or ():
        _known("rolled-back", name, [experiment.name for experiment in settings.experiments])
    plain = ("model", "tenant", "tier", "path", "text", "prompt_tokens", "max_tokens", "turn", "complexity", "code")
    values: dict[str, Any] = {
        name: value
        for name in (*plain, "language", "budget_used", "time", "unit")
        if (value := getattr(arguments, name)) is not None
    }
    values |= {name: tuple(getattr(arguments, name) or ()) for name in ("tag", "has", "busy", "rolled_back")}
    values["header"] = dict([_pair("header", each) for each in arguments.header or ()])
    return GivenRequest(**values, load=_load(arguments.load or (), decider))


def _load(given: list[str] | tuple[()], decider: Decider) -> dict[str, GivenLoad]:
    rungs: dict[str, GivenLoad] = {}
    known = (*decider.settings.engines, *decider.settings.upstreams)
    for each in given:
        place, value = _pair("load", each)
        rung, dot, key = place.rpartition(".")
        if not dot:
            raise CliError(f"--load {each}: expected RUNG.KEY=VALUE, such as {known[0]}.queue_wait=3s", 2)
        _known("load", rung, known)
        _known("load", key, LOAD_KEYS)
        changed = {key: _load_value(each, key, value)}
        rungs[rung] = msgspec.structs.replace(rungs.get(rung, GivenLoad()), **changed)
    return rungs


def _load_value(flag: str, key: str, value: str) -> object:
    states = get_args(BreakerStateName)
    try:
        match key:
            case "queue_wait":
                return parse_duration(value)
            case "kv_usage":
                return float(value)
            case "running":
                return int(value)
            case "healthy" if value in {"true", "false"}:
                return value == "true"
            case "breaker" if value in states:
                return value
    except ValueError as error:
        raise CliError(f"--load {flag}: {error}", 2) from None
    expected = "true or false" if key == "healthy" else ", ".join(states)
    raise CliError(f"--load {flag}: {value!r} is not {expected}", 2)


class _Asked(msgspec.Struct, frozen=True):
    features: Features
    terms: tuple[Term, ...]


def _read_body(arguments: argparse.Namespace, decider: Decider, situation: Situation) -> tuple[_Asked, tuple[str, ...]]:
    """Read by the server's own reader, so that what it refuses is refused here in the same words."""
    settings = decider.settings
    path = arguments.path or _path_of(arguments.request)
    features = situation.features
    try:
        body = _parsed(path, _bytes(arguments.request), settings.server)
        headers = tuple([(name.encode(), value.encode()) for name, value in features.headers.items()])
        request = InferenceRequest(
            request_id=features.request,
            credentials=Credentials(path=path, headers=headers, tags=tuple(features.tags)),
            body=body,
            arrived_at=0.0,
            model=body.model,
        )
        tokens, notes = _count(arguments, request, decider)
        if body.bound_to is not None:
            notes += (f"the answer is bound to {body.bound_to}: a cascade for which that is atomic works as a gate",)
    except (Refusal, EngineError) as error:
        raise CliError(f"{arguments.request}: {error}", 2) from None
    tenant = decider.tenants[features.tenant]
    found = features_of(request, decider.policy, features.tenant, tenant, tokens)
    text, turns = last_user_text(body.prompts)
    return _Asked(found, complexity_terms(text, turns)), notes


def _parsed(path: str, raw: bytes, settings: ServerSettings) -> ParsedBody:
    if path == _EMBEDDINGS:
        return parse_embedding(raw, settings.max_inputs)
    endpoint = COMPLETION if path == _COMPLETIONS else CHAT
    return endpoint.parse(raw, settings.max_choices)


def _path_of(file: Path) -> str:
    """A body with a `prompt` is one for completions, one with an `input` for embeddings."""
    try:
        keys = msgspec.json.decode(_bytes(file), type=dict[str, msgspec.Raw]).keys()
    except msgspec.DecodeError as error:
        raise CliError(f"{file}: this is no JSON object: {error}", 2) from None
    if "messages" in keys:
        return "/v1/chat/completions"
    return _COMPLETIONS if "prompt" in keys else _EMBEDDINGS if "input" in keys else "/v1/chat/completions"


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CliError(f"{file} cannot be read: {error.strerror or error}", 2) from None


def _count(arguments: argparse.Namespace, request: InferenceRequest, decider: Decider) -> tuple[int, tuple[str, ...]]:
    """Tokens of all prompts, by the tokenizer that the server counts with, or an estimate."""
    if arguments.prompt_tokens is not None:
        return arguments.prompt_tokens, ()
    folders = {
        name: engine.model
        for name, engine in decider.settings.engines.items()
        if (engine.model / "tokenizer.json").is_file()
        and is_encoder(engine.model) == (request.body.embedding is not None)
    }
    if folders:
        text = ModelText.load(folders.get(request.model, next(iter(folders.values()))))
        return sum([len(text.encode(prompt)) for prompt in request.body.prompts]), ()
    characters = len(msgspec.json.encode(request.body.prompts, enc_hook=dict))
    note = f"no tokenizer on this machine: prompt tokens are estimated at {_CHARACTERS_PER_TOKEN} characters each"
    return max(characters // _CHARACTERS_PER_TOKEN, 1), (note,)


def _pair(flag: str, text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise CliError(f"--{flag} {text}: expected NAME=VALUE", 2)
    return name.strip(), value.strip()


def _known(flag: str, name: str | None, known: Any) -> None:
    if name is None or name in known:
        return
    near = nearest(name, known)
    hint = f"; did you mean '{near}'?" if near else f"; there are: {', '.join(known)}"
    raise CliError(f"--{flag}: the policy has no '{name}'{hint}", 2)
