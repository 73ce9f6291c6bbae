"""`penstock engine profile`: measure step times on this machine, for `penstock policy simulate`."""

import argparse
import datetime as dt
from pathlib import Path
from typing import Any

import msgspec

from config.check.engines import model_file_problems
from config.load import load_settings
from config.profiles import embedded_profile
from engine.threads import prepare_environment
from gateway.cli.terminal import say
from gateway.errors import CliError
from gateway.telemetry.logs import configure_logs

_PROBES = 3
"""The service is measured at most this often, until the result is plausible."""


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("profile", help="measure step times on this machine, for `penstock policy simulate`")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="a TOML file or a folder of them (default: the embedded models)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", required=True, help="output file (JSON)")
    parser.add_argument(
        "--no-service", action="store_true", help="measure the engines only, not the service around them"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure each engine alone, then the service with all of them."""
    prepare_environment()
    configure_logs("warning")
    path = arguments.config or embedded_profile()
    settings = load_settings(path)
    if problems := model_file_problems(settings):
        raise CliError("; ".join(problems))
    if not arguments.out.absolute().parent.is_dir():
        raise CliError(f"there is no folder {arguments.out.absolute().parent}", 2)
    from actors.prompt.model_text import ModelText
    from engine.bench import machine
    from engine.errors import ModelError
    from engine.memory.machine import available_cores
    from engine.memory.resources import resolve
    from engine.model.vector_model import made_by
    from gateway.engine_factories import loads_adapters
    from gateway.profiling.measure import load_for_measure, measure_engine
    from gateway.profiling.profile import Profile, doubts

    engines, encoders = {}, []
    resolved = resolve(settings.engines, more_adapters=loads_adapters(settings))
    settings = msgspec.structs.replace(settings, engines={name: choice.settings for name, choice in resolved.items()})
    for name, engine in settings.engines.items():
        say(f"engine {name}: {engine.model}; {resolved[name].message}")
        try:
            if made_by(engine.model, engine.rerank) != "text":
                say("skipped: it makes vectors, which are not simulated")
                encoders.append(name)
                continue
            runner, tokenizer, config = load_for_measure(engine, say)
            measured = measure_engine(runner, tokenizer, engine, config, say)
            engines[name] = msgspec.structs.replace(measured, tokenizer=ModelText.load(engine.model).digest)
        except ModelError as error:
            raise CliError(f"engine '{name}': {error.message}") from None
    profile = Profile(
        penstock_profile=1,
        machine=machine(),
        made=f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC, {path.name}",
        cores=available_cores(),
        engines=engines,
        encoders=tuple(encoders),
    )
    if not arguments.no_service:
        from gateway.profiling.service_profiler import probe

        for turn in range(_PROBES):
            served, service = probe(settings, engines, say)
            profile = msgspec.structs.replace(profile, engines=served, service=service)
            doubtful = doubts(profile)
            if not doubtful:
                break
            then = "measuring again" if turn + 1 < _PROBES else "repeat this when nothing else runs on the machine"
            say(f"implausible: {'; '.join(doubtful)}: {then}")
    arguments.out.write_bytes(msgspec.json.format(msgspec.json.encode(profile), indent=1))
    say(f"wrote {arguments.out}")
    return 0
