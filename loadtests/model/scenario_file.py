"""Reads a scenario from TOML, with all problems at once."""

from pathlib import Path

import msgspec
import msgspec.inspect

from config.parse.decode import decode_value
from config.parse.documents import Document, file_error, read_text
from config.problems.errors import ConfigError, Problem, in_order
from config.problems.problems import Problems
from config.problems.secrets import secret_texts
from config.problems.source_map import Position
from loadtests.model.scenario import Scenario
from loadtests.model.scenario_check import check_scenario

_SCENARIO = msgspec.inspect.type_info(Scenario)


class LoadedScenario(msgspec.Struct, frozen=True):
    """A valid scenario, with warnings."""

    scenario: Scenario
    warnings: tuple[Problem, ...] = ()


def load_scenario(path: Path) -> LoadedScenario:
    """Raises ConfigError."""
    return parse_scenario(read_text(path), path)


def parse_scenario(text: str, path: Path) -> LoadedScenario:
    """The scenario in a text, as if it were in the file `path`. Raises ConfigError."""
    try:
        document = Document([(path, text)])
        problems = Problems(path, document, secret_texts(document.tables))
        scenario = decode_value(_SCENARIO, document.tables, problems, ())
        assert isinstance(scenario, Scenario)
        check_scenario(scenario, problems)
    except RecursionError:
        raise file_error(path, "tables or lists are nested too deeply", Position(1, 1)) from None
    if problems.has_errors():
        raise ConfigError(problems)
    return LoadedScenario(_with_paths(scenario, path.absolute().parent), in_order(problems))


def _with_paths(scenario: Scenario, folder: Path) -> Scenario:
    """With absolute paths."""
    target = scenario.target
    if target.key is not None and target.key.file is not None:
        target = msgspec.structs.replace(
            target, key=msgspec.structs.replace(target.key, file=(folder / target.key.file).resolve())
        )
    if target.authorities is not None:
        target = msgspec.structs.replace(target, authorities=(folder / target.authorities).resolve())
    tenants = {
        name: msgspec.structs.replace(
            tenant, key=msgspec.structs.replace(tenant.key, file=(folder / tenant.key.file).resolve())
        )
        if tenant.key is not None and tenant.key.file is not None
        else tenant
        for name, tenant in scenario.tenants.items()
    }
    arrivals = scenario.arrivals
    if arrivals.trace is not None:
        arrivals = msgspec.structs.replace(arrivals, trace=(folder / arrivals.trace).resolve())
    return msgspec.structs.replace(
        scenario, target=target, tenants=tenants, arrivals=arrivals, **_fault_paths(scenario, folder)
    )


def _fault_paths(scenario: Scenario, folder: Path) -> dict[str, object]:
    processes = {
        name: msgspec.structs.replace(process, log=(folder / process.log).resolve()) if process.log else process
        for name, process in scenario.processes.items()
    }
    faults = tuple(
        [
            msgspec.structs.replace(
                fault, key=msgspec.structs.replace(fault.key, file=(folder / fault.key.file).resolve())
            )
            if fault.key is not None and fault.key.file is not None
            else fault
            for fault in scenario.faults
        ]
    )
    return {"processes": processes, "faults": faults}
