"""A request described on the command line: by a JSON body as clients send it, by flags, or by both.

Flags override the body.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import msgspec

from actors.api.errors import Refusal
from actors.api.request import Credentials, InferenceRequest
from actors.prompt.model_text import ModelText, estimated_tokens
from actors.request.media_bounds import media_tokens
from actors.routing.features import features_of, last_user_text
from config.model.bounds import bounds_in
from config.model.conditions import NUMBERS, BreakerStateName
from config.model.expectations import GivenLoad, GivenRequest
from config.model.rerank import RerankSettings
from config.model.settings import Settings
from config.model.units import parse_duration
from config.problems.problems import nearest
from engine.errors import EngineError
from engine.model.vector_model import made_by
from gateway.cli.policy.request_flags import LOAD_KEYS
from gateway.decisions.decision_request import read_decision
from gateway.endpoints.completions import CHAT, COMPLETION, MESSAGE
from gateway.endpoints.responses.responses import RESPONSE
from gateway.endpoints.vectors.decisions import DECISION
from gateway.endpoints.vectors.embeddings import parse_embedding
from gateway.endpoints.vectors.moderations import MODERATION, chosen_moderation
from gateway.endpoints.vectors.scoring import SCORING, parse_scoring
from gateway.errors import CliError
from gateway.openai.requests.moderation_request import read_moderation
from policies.authoring.decision import Decider
from policies.authoring.situation import Situation, situation_of
from policies.model.features import DECISIONS_PATH, Features
from policies.routing.complexity import Term, complexity_terms
from policies.routing.token_budget import PromptSizes

_COMPLETIONS = "/v1/completions"
_EMBEDDINGS = "/v1/embeddings"
_MODERATIONS = "/v1/moderations"
_RESPONSES = "/v1/responses"
_WRITTEN = {_COMPLETIONS: COMPLETION, "/v1/messages": MESSAGE, _RESPONSES: RESPONSE}
"""What is written by a model, and is not described as chat completions are."""
_OF_RESPONSES = frozenset(
    {"instructions", "max_output_tokens", "previous_response_id", "conversation", "text", "tools"}
)
"""Fields beside `input` that embeddings do not have."""
_LOAD_BOUNDS = bounds_in(GivenLoad)
# By flag: the features that it sets.
_SETS: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in ("model", "tier", "path", "has", "language", *NUMBERS)},
    "tenant": ("tenant", "tier"),
    "tag": ("tags",),
    "header": ("headers",),
    "text": ("complexity", "code", "language"),
    "unit": ("request", "conversation", "user"),
}


class Described(msgspec.Struct, frozen=True):
    """The described request and load."""

    situation: Situation
    terms: tuple[Term, ...] | None
    """The terms of the complexity; None if it was given as a number, or there is no text."""
    notes: tuple[str, ...]


def described(arguments: argparse.Namespace, decider: Decider) -> Described:
    """Build the request and the load from the arguments. Raises CliError."""
    given = _given(arguments, decider)
    try:
        situation = situation_of(given, decider.settings, at=time.time())
    except ValueError as error:
        raise CliError(f"--time: {error}", 2) from None
    text = given.text
    terms = None if text is None or given.complexity is not None else complexity_terms(text, given.turn)
    if arguments.request is None:
        return Described(situation, terms, ())
    known, terms_of_body, notes = _read_body(arguments, decider, situation)
    overridden = {feature for flag, sets in _SETS.items() if getattr(arguments, flag) is not None for feature in sets}
    if arguments.path is None:
        overridden.discard("path")
    changed = known.changed(**{name: getattr(situation.features, name) for name in ("at", *overridden)})
    if given.text is None and given.complexity is None:
        terms = terms_of_body
    return Described(changed, terms, notes)


def _given(arguments: argparse.Namespace, decider: Decider) -> GivenRequest:
    settings = decider.settings
    _known("model", arguments.model and arguments.model.partition(":")[0], settings.models)
    _known("tenant", arguments.tenant, decider.tenants)
    _known("tier", arguments.tier, settings.tiers)
    for name in arguments.busy or ():
        _known("busy", name, settings.cascades)
        if settings.cascades[name].when_busy is None:
            raise CliError(f"--busy {name}: the cascade has no when_busy", 2)
    for name in arguments.rolled_back or ():
        _known("rolled-back", name, [experiment.name for experiment in settings.experiments])
    words = ("model", "tenant", "tier", "path", "text", "language", "time", "unit")
    given = {name: getattr(arguments, name) for name in (*words, *NUMBERS)}
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    values |= {name: tuple(getattr(arguments, name) or ()) for name in ("tag", "has", "busy", "rolled_back")}
    values["header"] = dict([_pair("header", header) for header in arguments.header or ()])
    return GivenRequest(**values, load=_load(arguments.load or (), decider))


def _load(given: list[str] | tuple[()], decider: Decider) -> dict[str, GivenLoad]:
    rungs: dict[str, GivenLoad] = {}
    known = (*decider.settings.engines, *decider.settings.upstreams)
    for flag in given:
        place, value = _pair("load", flag)
        rung, dot, key = place.rpartition(".")
        if not dot:
            raise CliError(f"--load {flag}: expected RUNG.KEY=VALUE, such as {known[0]}.queue_wait=3s", 2)
        _known("load", rung, known)
        _known("load", key, LOAD_KEYS)
        read = _load_value(flag, key, value)
        bound = _LOAD_BOUNDS.get(key)
        if bound is not None and isinstance(read, int | float) and not bound.allows(read):
            raise CliError(f"--load {flag}: {value} is out of range; expected {bound}", 2)
        changed = {key: read}
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


def _read_body(
    arguments: argparse.Namespace, decider: Decider, situation: Situation
) -> tuple[Situation, tuple[Term, ...], tuple[str, ...]]:
    """The situation with the body's features, the terms of its complexity, and notes.

    Read with the server's own code, so that a body that it would refuse is refused here with the same message.
    """
    settings = decider.settings
    path = arguments.path or _path_of(arguments.request)
    features = situation.features
    try:
        request = request_of_body(path, _bytes(arguments.request), features, settings, partial(_reads_pairs, decider))
        request = msgspec.structs.replace(request, media_tokens=media_tokens(request.body, settings.media))
        sizes, notes, knows_effort = _count(request, settings)
    except (Refusal, EngineError) as error:
        raise CliError(f"{arguments.request}: {error}", 2) from None
    tenant = decider.tenants[features.tenant]
    model = request.model if request.model in settings.models else request.model.rpartition(":")[0]
    found = features_of(
        request,
        decider.policy,
        features.tenant,
        tenant,
        sizes.of(model) or (),
        at=features.at,
        knows_effort=knows_effort,
    )
    text, turns = last_user_text(request.body.prompts)
    return Situation(found, situation.load, sizes), complexity_terms(text, turns), notes


def _reads_pairs(decider: Decider, model: str) -> bool:
    """As `Service.reads_pairs`."""
    engines = decider.settings.engines
    found = [engines[rung] for rung in decider.policy.rungs_of(model) if rung in engines]
    return any(made_by(engine.model, engine.rerank) == "scores" for engine in found)


def request_of_body(
    path: str,
    raw: bytes,
    features: Features,
    settings: Settings,
    reads_pairs: Callable[[str], bool] = lambda _: False,
) -> InferenceRequest:
    """What a body asks for, with the tags and headers of `features`. Raises Refusal and EngineError."""
    most = settings.server.max_inputs
    if path in SCORING:
        body = parse_scoring(SCORING[path], raw, most, reads_pairs)[1].body
    elif path == DECISIONS_PATH:
        body = read_decision(DECISION.decode(raw)[0]).body
    elif path == _MODERATIONS:
        moderation = MODERATION.decode(raw)[0]
        chosen = chosen_moderation(settings.moderations, moderation.model)
        body = read_moderation(moderation, settings.moderations[chosen].model, most)
    elif path == _EMBEDDINGS:
        body = parse_embedding(raw, most)
    else:
        body = _WRITTEN.get(path, CHAT).parse(raw, settings.server.max_choices, settings.extra_request_fields)
    headers = tuple([(name.encode(), value.encode()) for name, value in features.headers.items()])
    return InferenceRequest(
        request_id=features.request,
        credentials=Credentials(path=path, headers=headers, tags=tuple(features.tags)),
        body=body,
        arrived_at=0.0,
        model=body.model,
    )


def _path_of(file: Path) -> str:
    """The endpoint, by the body's fields: embeddings and responses have `input`, and most are for chat."""
    try:
        keys = msgspec.json.decode(_bytes(file), type=dict[str, msgspec.Raw]).keys()
    except msgspec.DecodeError as error:
        raise CliError(f"{file}: not a JSON object: {error}", 2) from None
    if "messages" in keys:
        return "/v1/chat/completions"
    if "input" in keys:
        return _RESPONSES if keys & _OF_RESPONSES else _EMBEDDINGS
    return _COMPLETIONS if "prompt" in keys else "/v1/chat/completions"


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CliError(f"{file} cannot be read: {error.strerror or error}", 2) from None


def _count(request: InferenceRequest, settings: Settings) -> tuple[PromptSizes, tuple[str, ...], bool]:
    """Tokens of each prompt, by the tokenizers that the server counts with, or an estimate, and notes.

    The last: a chat template knows how much the model is to reason.
    """
    engines = {
        name: engine
        for name, engine in settings.engines.items()
        if (engine.model / "tokenizer.json").is_file()
        and (made_by(engine.model, engine.rerank) != "text") == request.body.wants_vectors
    }
    if not engines:
        note = "no tokenizer on this machine: prompt tokens are estimated, at three bytes each"
        estimates = [estimated_tokens(prompt) + request.media_tokens for prompt in request.body.prompts]
        return PromptSizes({}, tuple(estimates)), (note,), False
    counted: dict[tuple[Path, RerankSettings | None], tuple[int, ...]] = {}
    knows_effort = False
    for engine in engines.values():
        reads = engine.model, engine.rerank
        if reads not in counted:
            text = ModelText.load(engine.model, rerank=engine.rerank)
            body = request.body
            knows_effort = knows_effort or text.knows_effort
            lengths = [
                len(text.encode(prompt, thinking=body.engines_think, effort=body.effort)) + request.media_tokens
                for prompt in body.prompts
            ]
            counted[reads] = tuple([min(length, request.body.truncate_prompt_tokens or length) for length in lengths])
    sizes = {name: counted[engine.model, engine.rerank] for name, engine in engines.items()}
    return PromptSizes(sizes, next(iter(counted.values()))), (), knows_effort


def _pair(flag: str, text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise CliError(f"--{flag} {text}: expected NAME=VALUE", 2)
    return name.strip(), value.strip()


def _known(flag: str, name: str | None, known: Any) -> None:
    if name is None or name in known:
        return
    near = nearest(name, known)
    hint = f"; did you mean '{near}'?" if near else f"; choose from: {', '.join(known)}"
    raise CliError(f"--{flag}: the policy has no '{name}'{hint}", 2)
