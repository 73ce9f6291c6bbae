"""`penstock serve`: serve a configuration, or the embedded models if none is given."""

import argparse
import errno
import signal
import socket
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import structlog
import trio

from actors.kernel.errors import ServiceFailed
from config.check.engines import model_file_problems
from config.load import check_admin_binding, check_binding
from config.model.settings import Settings
from config.profiles import embedded_profile
from config.source import ConfigSource
from engine.threads import prepare_environment
from gateway.cli.terminal import say, write_file
from gateway.descriptor_limit import allow_descriptors, descriptors_needed
from gateway.errors import CliError, leaves
from gateway.handover import Takeover, passed_by_systemd, take_over

log = structlog.get_logger()


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("serve", help="serve a configuration; without one, the embedded models")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="a TOML file or a folder of them (default: the embedded models)"
    )
    parser.add_argument("--host", help="address to listen on, instead of the configured one")
    parser.add_argument("--port", type=int, help="port to listen on, instead of the configured one; 0 takes a free one")
    parser.add_argument("--admin-port", type=int, help="enable the admin API on this port; 0 takes a free one")
    parser.add_argument(
        "--log-level",
        choices=["debug", "info", "warning", "error"],
        default="info",
        help="lowest level that is logged (%(default)s)",
    )
    parser.add_argument(
        "--record",
        type=Path,
        metavar="FILE",
        help="record the traffic without texts in a new file, for penstock policy simulate",
    )
    parser.add_argument(
        "--handover",
        type=Path,
        metavar="FILE",
        help="a Unix socket: take over from the process that serves there, if there is one, and hand over to the next",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    # By default it ends a process: until the server listens to it, a reload has nothing to do.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # OpenMP reads its environment when torch is loaded, so this comes before any import that could load torch.
    prepare_environment()
    for name, port in (("--port", arguments.port), ("--admin-port", arguments.admin_port)):
        if port is not None and not 0 <= port < 65536:
            raise CliError(f"{name} must be between 0 and 65535, not {port}", 2)
    passed = passed_by_systemd()
    addresses = {name: listener.getsockname()[:2] for name, listener in passed.items()}

    def with_arguments(settings: Settings) -> Settings:
        settings = _with_options(settings, arguments)
        for name, (host, port) in addresses.items():
            settings = _with_passed(settings, name, host, port)
        return settings

    source = ConfigSource(arguments.config or embedded_profile(), with_arguments)
    settings = source.read().settings
    # Before anything is loaded, so that a missing file is reported at once.
    if problems := model_file_problems(settings):
        raise CliError("; ".join(problems))

    if arguments.record is not None:
        write_file(arguments.record, b"", if_new=": give --record another name")
    takeover = take_over(arguments.handover) if arguments.handover is not None else None

    def listener_of(name: str, host: str, port: int, option: str) -> socket.socket:
        found = passed.get(name) if takeover is None else takeover.listener(name, host, port)
        return _listen(host, port, option) if found is None else found

    listener = listener_of("api", settings.server.host, settings.server.port, "--port")
    admin = None
    if settings.admin.enabled:
        admin = listener_of("admin", settings.admin.host, settings.admin.port, "--admin-port")
    from gateway.telemetry.logs import configure_logs

    configure_logs(arguments.log_level)
    needed = descriptors_needed(settings)
    if (allowed := allow_descriptors(needed)) < needed:
        log.warning("few_descriptors", allowed=allowed, needed=needed, hint="raise ulimit -Hn, or LimitNOFILE")
    say(f"loading {_names(settings)} ...")
    try:
        trio.run(partial(_serve, settings, source, arguments, listener=listener, admin=admin, takeover=takeover))
    except BaseExceptionGroup as group:
        failures, rest = group.split(ServiceFailed)
        if failures is None or rest is not None:
            raise
        raise _failed(*leaves(failures)) from None
    except ServiceFailed as error:
        raise _failed(error) from None
    return 0


def _with_options(settings: Settings, arguments: argparse.Namespace) -> Settings:
    """Raises ConfigError."""
    if arguments.host is not None:
        check_binding(settings, arguments.host)
    given = {name: value for name in ("host", "port") if (value := getattr(arguments, name)) is not None}
    admin = settings.admin
    if arguments.admin_port is not None:
        admin = msgspec.structs.replace(admin, enabled=True, port=arguments.admin_port)
    return msgspec.structs.replace(settings, server=msgspec.structs.replace(settings.server, **given), admin=admin)


def _with_passed(settings: Settings, name: str, host: str, port: int) -> Settings:
    """With the address of a socket that systemd has passed: there the server listens. Raises ConfigError."""
    if name == "api":
        check_binding(settings, host, "the socket unit")
        return msgspec.structs.replace(settings, server=msgspec.structs.replace(settings.server, host=host, port=port))
    if settings.admin.enabled:
        check_admin_binding(settings, host, "the socket unit")
    return msgspec.structs.replace(settings, admin=msgspec.structs.replace(settings.admin, host=host, port=port))


def _failed(*failures: BaseException) -> CliError:
    from actors.kernel.errors import EXIT_STALLED, ServiceStalled

    stalled = any(isinstance(failure, ServiceStalled) for failure in failures)
    return CliError("; ".join([str(failure) for failure in failures]), EXIT_STALLED if stalled else 1)


async def _serve(
    settings: Settings,
    source: ConfigSource,
    arguments: argparse.Namespace,
    *,
    listener: socket.socket,
    admin: socket.socket | None,
    takeover: Takeover | None,
) -> None:
    from actors.service import Service
    from gateway.app import serve, spare_the_collector
    from gateway.engine_factories import engine_factories
    from gateway.example_request import KEY_VARIABLE, example_path, example_request

    model = next(iter(settings.models))
    url = _url(settings.server.host, listener)
    example = example_request(url, model, key=settings.keyed, path=example_path(settings))

    def announce() -> None:
        spare_the_collector()
        if admin is not None:
            print(f"admin API on {_url(settings.admin.host, admin)}/admin", flush=True)
        print(f"serving {_names(settings)} on {url}", flush=True)
        if settings.keyed:
            print(f"set {KEY_VARIABLE} to an API key (`penstock keys new --tenant NAME` creates one), then", flush=True)
        print(f"try: {example}", flush=True)
        print(f"or open {url}/ in a browser", flush=True)

    service = Service(
        settings,
        engine_factories(settings),
        source=source,
        watches=settings.server.watch,
        record=arguments.record,
        inherited_lock=None if takeover is None else takeover.lock(),
        wait_for_ledger=None if takeover is None else takeover.wait_for_go,
    )
    await serve(service, settings, listener, announce, admin=admin, takeover=takeover, handover=arguments.handover)


def _listen(host: str, port: int, option: str = "--port") -> socket.socket:
    from gateway.http.server import listen

    try:
        return listen(host, port)
    except OSError as error:
        match error.errno:
            case errno.EADDRINUSE:
                message = f"port {port} on {host} is in use: choose another with {option}, or stop what listens there"
            case errno.EACCES:
                message = f"port {port} needs more privileges than this user has: choose one above 1023 with {option}"
            case _:
                message = f"cannot listen on {host}:{port}: {error.strerror or error}"
        raise CliError(message) from None


def _url(host: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    return f"http://[{host.strip('[]')}]:{port}" if ":" in host else f"http://{host}:{port}"


def _names(settings: Settings) -> str:
    return ", ".join([*settings.engines, *settings.upstreams])
