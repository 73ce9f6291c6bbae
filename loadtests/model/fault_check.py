"""Finds what is wrong with the faults of a scenario."""

from config.check.addresses import check_secret_source, check_url
from config.problems.problems import Problems
from config.problems.source_map import Path
from loadtests.model.faults import LONGEST_FAULT, FaultSettings
from loadtests.model.scenario import Scenario
from loadtests.model.timing import duration_of

_NEEDS = {
    "stall": ("process", "lasts"),
    "kill": ("process",),
    "restart": ("process",),
    "proxy": ("proxy", "mode", "lasts"),
    "reload": ("url",),
}
_OWN = ("process", "lasts", "proxy", "mode", "url")
_EXAMPLES = {
    "process": 'process = "server"',
    "lasts": 'lasts = "5s"',
    "proxy": 'proxy = "way"',
    "mode": 'mode = "stall"',
    "url": 'url = "http://127.0.0.1:8081/admin/policy/reload"',
}


def check_faults(scenario: Scenario, problems: Problems) -> None:
    """Report all inconsistencies."""
    for name, process in scenario.processes.items():
        here: Path = ("processes", name)
        if not process.command or not process.command[0]:
            problems.add((*here, "command"), "there is no command", expected='such as ["penstock", "serve"]')
        if process.ready:
            check_url((*here, "ready"), process.ready, problems)
    for name, proxy in scenario.proxies.items():
        for field in ("listen", "to"):
            _check_place(("proxies", name, field), getattr(proxy, field), problems)
    for index, fault in enumerate(scenario.faults):
        _check_fault(("faults", index), fault, scenario, problems)


def _check_fault(path: Path, fault: FaultSettings, scenario: Scenario, problems: Problems) -> None:
    needs = _NEEDS[fault.kind]
    for field in _OWN:
        value = getattr(fault, field)
        if field in needs and not value and not problems.is_broken((*path, field)):
            problems.add(
                (*path, "kind"), f"a fault of kind \"{fault.kind}\" needs '{field}'", expected=_EXAMPLES[field]
            )
        elif field not in needs and value:
            problems.add_at_key((*path, field), f"a fault of kind \"{fault.kind}\" has no '{field}'")
    if fault.at >= duration_of(scenario):
        problems.add(
            (*path, "at"), "the run is over by then", expected=f"less than its duration of {duration_of(scenario):g} s"
        )
    if fault.lasts is not None and fault.lasts > LONGEST_FAULT:
        problems.add((*path, "lasts"), f"a fault lasts at most {LONGEST_FAULT / 60:g} minutes")
    if fault.kind == "restart" and fault.process and fault.process not in scenario.processes:
        problems.unknown_name((*path, "process"), "process", fault.process, scenario.processes)
    if fault.kind == "proxy" and fault.proxy and fault.proxy not in scenario.proxies:
        problems.unknown_name((*path, "proxy"), "proxy", fault.proxy, scenario.proxies)
    if fault.mode == "drip" and fault.bytes_a_second is None:
        problems.add((*path, "mode"), "a drip needs its speed", expected='bytes_a_second = "1KiB"')
    if fault.url:
        check_url((*path, "url"), fault.url, problems)
    check_secret_source((*path, "key"), fault.key, problems)


def place_of(text: str) -> tuple[str, int]:
    """Host and port. Raises ValueError."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not (port.isascii() and port.isdigit()) or not 0 <= int(port) < 65536:
        raise ValueError(text)
    return host, int(port)


def _check_place(path: Path, text: str, problems: Problems) -> None:
    try:
        place_of(text)
    except ValueError:
        problems.add(path, "this is no host and port", expected='such as "127.0.0.1:9000"')
