"""One trace through one policy or several, each in a world of its own."""

from collections.abc import Callable, Mapping

import msgspec

from config.model.settings import Settings
from config.model.table import AUTO
from config.tenants import known_tenants
from gateway.profiling.profile import Profile, doubts
from gateway.simulation.report import Comparison, make_report
from gateway.simulation.world import World
from policies.records.trace import TraceRequest, trace_features


def simulate(
    policies: Mapping[str, Settings],
    profile: Profile,
    trace: tuple[TraceRequest, ...],
    *,
    trace_name: str,
    profile_name: str,
    seed: int,
    speed: float,
    shares: Mapping[str, float],
    progress: Callable[[str], None],
) -> Comparison:
    """Play `trace` at `speed` through each of the policies. `shares`: see `Draws`.

    Raises BadProfile or BadTrace before anything is played, and UnknownMargins.
    """
    if speed != 1:
        trace = tuple([msgspec.structs.replace(request, at=request.at / speed) for request in trace])
    worlds = {name: World(settings, profile, trace, seed=seed, shares=shares) for name, settings in policies.items()}
    reports = []
    for name, world in worlds.items():

        def tell(now: float, arrived: int, name: str = name) -> None:
            progress(f"{name}: {arrived} of {len(trace)} requests, {now:.0f} s on the virtual clock")

        ended = world.run(tell)
        reports.append(make_report(world, ended, name))
    return Comparison(
        trace=trace_name,
        trace_requests=len(trace),
        trace_seconds=trace[-1].at,
        profile=profile_name,
        seed=seed,
        speed=speed,
        notes=(
            *_notes(trace, shares, policies, profile),
            *[f"the profile holds, though {doubt}" for doubt in doubts(profile)],
        ),
        reports=tuple(reports),
    )


def _assumed_names(trace: tuple[TraceRequest, ...], settings: Settings, title: str) -> list[str]:
    """Who is taken to have asked, and for which model, where the trace does not say it."""
    assumed = trace_features(TraceRequest(at=0.0, prompt_tokens=1, output_tokens=1), settings)
    notes = []
    for word, told, name, others in (
        ("tenant", [request.tenant for request in trace], assumed.tenant, len(known_tenants(settings))),
        ("model", [request.model for request in trace], assumed.model, len(settings.models)),
    ):
        unsaid = told.count("")
        if unsaid:
            first = f", the first of {others}" if others > 1 else ""
            tier = f" (tier '{assumed.tier}')" if word == "tenant" else ""
            notes.append(f"{title}{unsaid} requests do not tell their {word}: it is taken to be '{name}'{tier}{first}")
    return notes


def _notes(
    trace: tuple[TraceRequest, ...], shares: Mapping[str, float], policies: Mapping[str, Settings], profile: Profile
) -> tuple[str, ...]:
    notes = []
    unsaid = sum(request.complexity is None for request in trace)
    if unsaid:
        notes.append(f"{unsaid} requests do not tell their complexity, which counts as 0")
    for policy, settings in policies.items():
        notes += _assumed_names(trace, settings, f"{policy}: " if len(policies) > 1 else "")
    if not all(request.max_tokens for request in trace):
        notes.append("requests that do not tell max_tokens ask for as much as the model and the route allow")
    if not any(request.prefix for request in trace):
        notes.append("no two prompts have a common beginning: the trace tells none")
    if any(settings.cascades for settings in policies.values()):
        if shares:
            drawn = ", ".join(f"{name} {share:.0%}" for name, share in sorted(shares.items()))
            notes.append(f"answers that are not sure enough are drawn: {drawn}")
        elif not all(request.margins for request in trace) and any(
            each.defer.artefact is not None for settings in policies.values() for each in settings.cascades.values()
        ):
            notes.append("how sure the small model is, where it was not recorded, is drawn from the calibration")
        notes.append("an answer is as long from every model as it was recorded")
        if any(each.emit.mode == "verified" for settings in policies.values() for each in settings.cascades.values()):
            notes.append("verified cascades run as their large stage alone: what drafts save is not simulated")
    if not profile.cores and any(settings.cores.at_once == AUTO for settings in policies.values()):
        notes.append("each engine has a core of its own: the profile does not tell how many there are")
    upstreams = sorted({name for settings in policies.values() for name in settings.upstreams})
    for name in upstreams:
        times = profile.upstreams.get(name)
        if times is None:
            notes.append(
                f"upstream '{name}' is not simulated, and refuses: nobody told how fast it is "
                f"(--upstream {name}=TTFT,ITL, such as 600ms,25ms)"
            )
        else:
            notes.append(
                f"upstream '{name}' takes {times.ttft_s:g} s to the first token and {times.itl_s:g} s between two, "
                "as stated, whatever the prompt and up to its `concurrent`"
            )
    return tuple(notes)
