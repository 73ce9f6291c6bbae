"""Checks what judges texts: rerankers, calibrations of decisions, moderations, guardrails, judges of cascades."""

from collections.abc import Mapping

from config.check.names import serving
from config.model.judging import JudgedBy
from config.model.rerank import PLACES
from config.model.settings import Settings
from config.model.wildcard import fits
from config.problems.problems import Problems
from config.problems.source_map import Path

_MAKES = {"text": "text", "embeddings": "embeddings", "scores": "scores of labels"}


def check_judging(settings: Settings, problems: Problems, makes: Mapping[str, str] | None = None) -> None:
    """`makes`: by engine whose model could be read, "text", "embeddings" or "scores"."""
    made = makes or {}
    for name, engine in settings.engines.items():
        if engine.rerank is None:
            continue
        missing = [place for place in PLACES[1:] if engine.rerank.template.count(place) != 1]
        if missing:
            problems.add(
                ("engines", name, "rerank", "template"),
                f"{' and '.join(missing)} must be there once",
                expected="a prompt with a place for the query and one for the document",
            )
        for word in ("yes", "no"):
            if getattr(engine.rerank, word) == "":
                problems.add(("engines", name, "rerank", word), "an answer of no characters", expected="one token")
    for name in settings.decisions:
        if name not in settings.engines and not problems.is_broken(("engines",)):
            problems.unknown_name(("decisions", name), "engine", name, settings.engines, at_key=True)
    for name, moderation in settings.moderations.items():
        _check_judging_model(
            settings, ("moderations", name, "model"), moderation.model, problems, needed="scores", made=made
        )
        if not moderation.categories:
            problems.add(("moderations", name, "categories"), "nothing is defined", expected="at least one")
        for category, each in moderation.categories.items():
            if not each.labels:
                path = ("moderations", name, "categories", category, "labels")
                problems.add(path, "no label belongs to it", expected="labels of the classifier")
    for name, cascade in settings.cascades.items():
        if cascade.judge is not None:
            _check_judged_by(settings, ("cascades", name, "judge"), cascade.judge, made, problems)
    for name, guardrail in settings.guardrails.items():
        _check_judged_by(settings, ("guardrails", name), guardrail, made, problems)
        for place, pattern in enumerate(guardrail.guards):
            base = pattern.partition(":")[0]
            if not any(fits(model, base) for model in settings.models) and not problems.is_broken(("models",)):
                problems.unknown_name(("guardrails", name, "guards", place), "model", pattern, settings.models)


def _check_judged_by(settings: Settings, path: Path, by: JudgedBy, made: Mapping[str, str], problems: Problems) -> None:
    needed = "text" if by.predicate else "scores"
    _check_judging_model(settings, (*path, "model"), by.model, problems, needed=needed, made=made)
    if bool(by.predicate) == bool(by.labels):
        problems.add_at_key(path, "it must have a predicate or labels", expected="exactly one of the two")


def _check_judging_model(
    settings: Settings, path: Path, model: str, problems: Problems, *, needed: str, made: Mapping[str, str]
) -> None:
    if any(problems.is_broken((table,)) for table in ("models", "engines", "routes", "ladders", "cascades")):
        return
    if model not in settings.models:
        problems.unknown_name(path, "model", model, settings.models)
    elif not settings.engines:
        problems.add(path, "only engines can judge, and there is none", expected="an engine that serves the model")
    if model not in settings.models or not settings.engines or not settings.routes:
        return
    engines = [name for name in dict.fromkeys(serving(settings, model)) if name in settings.engines]
    if not engines:
        expected = "a model with a route to an engine"
        problems.add(path, f"only engines can judge, and no engine serves '{model}'", expected=expected)
    elif all(made.get(name, needed) != needed for name in engines):
        makes = " and ".join([f"'{name}' makes {_MAKES[made[name]]}" for name in engines])
        expected = "a model of text, for a predicate" if needed == "text" else "a classifier, for labels"
        problems.add(path, f"it cannot judge: {makes}", expected=expected)
