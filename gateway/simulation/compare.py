"""Simulates a trace with one or two policies, independently of each other."""

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
    """Replay `trace`, with arrivals `speed` times as fast, through each policy. `shares`: see `SimulatedDraws`.

    Raises BadProfile or BadTrace before the first policy is simulated, and UnknownMargins.
    """
    if speed != 1:
        trace = tuple([msgspec.structs.replace(request, at=request.at / speed) for request in trace])
    worlds = {name: World(settings, profile, trace, seed=seed, shares=shares) for name, settings in policies.items()}
    reports = []
    for name, world in worlds.items():

        def report_progress(now: float, arrived: int, name: str = name) -> None:
            progress(f"{name}: {arrived} of {len(trace)} requests, {now:.0f} s on the virtual clock")

        ended = world.run(report_progress)
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
            *[f"the profile is used although it is implausible: {doubt}" for doubt in doubts(profile)],
        ),
        reports=tuple(reports),
    )


def _assumed_names(trace: tuple[TraceRequest, ...], settings: Settings, title: str) -> list[str]:
    assumed = trace_features(TraceRequest(at=0.0, prompt_tokens=1, output_tokens=1), settings)
    notes = []
    for word, names, name, known in (
        ("tenant", [request.tenant for request in trace], assumed.tenant, len(known_tenants(settings))),
        ("model", [request.model for request in trace], assumed.model, len(settings.models)),
    ):
        unnamed = names.count("")
        if unnamed:
            first = f", the first of {known}," if known > 1 else ""
            tier = f" (tier '{assumed.tier}')" if word == "tenant" else ""
            notes.append(f"{title}{unnamed} requests name no {word}: '{name}'{tier}{first} is used")
    return notes


def _notes(
    trace: tuple[TraceRequest, ...], shares: Mapping[str, float], policies: Mapping[str, Settings], profile: Profile
) -> tuple[str, ...]:
    notes = []
    without_complexity = sum(request.complexity is None for request in trace)
    if without_complexity:
        notes.append(f"{without_complexity} requests have no complexity: 0 is used")
    for policy, settings in policies.items():
        notes += _assumed_names(trace, settings, f"{policy}: " if len(policies) > 1 else "")
    if not all(request.max_tokens for request in trace):
        notes.append("requests without max_tokens may generate as many tokens as the model and the route allow")
    if not any(request.prefix for request in trace):
        notes.append("no two prompts share a prefix: the trace has no prefixes")
    cascades = [cascade for settings in policies.values() for cascade in settings.cascades.values()]
    if cascades:
        if shares:
            drawn = ", ".join(f"{name} {share:.0%}" for name, share in sorted(shares.items()))
            notes.append(f"which answers are escalated is drawn at random: {drawn}")
        elif not all(request.margins for request in trace) and any(cascade.defer.artefact for cascade in cascades):
            notes.append("margins of the small model that were not recorded are drawn from the calibration")
        notes.append("every model's answer has the recorded length")
        if any(cascade.judge is not None for cascade in cascades):
            notes.append("judges of cascades are not simulated: what margins or --escalate say decides alone")
        if any(cascade.emit.mode == "verified" for cascade in cascades):
            notes.append("verified cascades run as their large stage alone: the time that drafts save is not simulated")
    if not profile.cores and any(settings.cores.at_once == AUTO for settings in policies.values()):
        notes.append("each engine has a core of its own: the profile does not state the number of cores")
    upstreams = sorted({name for settings in policies.values() for name in settings.upstreams})
    for name in upstreams:
        times = profile.upstreams.get(name)
        if times is None:
            notes.append(
                f"upstream '{name}' is not simulated and refuses every request: its speed is unknown "
                f"(--upstream {name}=TTFT,ITL, such as 600ms,25ms)"
            )
        else:
            notes.append(
                f"upstream '{name}' takes {times.ttft_s:g} s to the first token and {times.itl_s:g} s between two "
                "tokens, for every prompt and for up to `concurrent` requests at once"
            )
    return tuple(notes)
