"""What can be said about a condition before any request is seen: it always holds, never holds, or it depends."""

from collections.abc import Mapping

from config.conditions import SignalSettings


def truth(when: SignalSettings, signals: Mapping[str, SignalSettings], model: str | None = None) -> bool | None:
    """True: always; False: never; None: it depends. With `model`: for requests for that model.

    `signals` must be free of cycles; unknown names depend.
    """
    verdicts: list[bool | None] = []
    if when.model:
        verdicts.append(model in when.model if model is not None else None)
    for given in (when.tenant, when.tier, when.tag, when.prompt_tokens, when.complexity, when.load):
        if given:
            verdicts.append(None)
    if when.signal:
        named = [signals.get(name) for name in when.signal]
        verdicts.append(_any([None if found is None else truth(found, signals, model) for found in named]))
    if when.any:
        verdicts.append(_any([truth(member, signals, model) for member in when.any]))
    verdicts.extend(truth(member, signals, model) for member in when.all)
    if when.not_ is not None:
        inner = truth(when.not_, signals, model)
        verdicts.append(None if inner is None else not inner)
    if False in verdicts:
        return False
    return None if None in verdicts else True


def _any(verdicts: list[bool | None]) -> bool | None:
    if True in verdicts:
        return True
    return None if None in verdicts else False
