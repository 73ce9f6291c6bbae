"""Hands the listening sockets and the ledger's lock over to a new process of the same gateway (ADR 36).

The new process connects to a Unix socket and gets them at once, then loads its models. When it says READY, the old one
accepts no more connections, writes its ledger, and says GO: from then on the new one accepts from the same queue, and
the old one ends what it has. If either process dies before that, the other one serves on.
"""

import contextlib
import os
import select
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import structlog
import trio

from gateway.errors import CliError
from gateway.http.server import is_bound_to

_GREETING = b"penstock handover 1:"
_READY, _GO = b"ready\n", b"go\n"
_MOST_SOCKETS = 8
_FIRST_PASSED = 3
"""sd_listen_fds(3): descriptors begin here."""
_GREETING_S = 10.0
_GO_S = 60
"""How long the old process may take to answer READY: it writes its ledger, which is bounded by five seconds."""
log = structlog.get_logger()


class Takeover:
    """The new process's side: what it got, and the conversation. Blocking, but never for longer than it says."""

    def __init__(self, connection: socket.socket, descriptors: Mapping[str, int]) -> None:
        """`descriptors`: by name: `api`, `admin`, `lock`."""
        self._connection = connection
        self._ready = False
        self._descriptors = dict(descriptors)

    def listener(self, name: str, host: str, port: int) -> socket.socket | None:
        """The listening socket of that name, if it listens on this address (port 0: on any); the caller owns it."""
        descriptor = self._descriptors.pop(name, None)
        if descriptor is None:
            return None
        listener = socket.socket(fileno=descriptor)
        if port in {0, listener.getsockname()[1]} and is_bound_to(listener, host):
            listener.setblocking(False)
            return listener
        listener.close()
        return None

    def lock(self) -> int | None:
        """The open file of the ledger's lock; the caller owns it."""
        return self._descriptors.pop("lock", None)

    def ready(self) -> None:
        """The models are loaded: the old process may stop."""
        self._ready = True
        with contextlib.suppress(OSError):
            self._connection.sendall(_READY)

    def close(self) -> None:
        """End the conversation, and close what was not asked for: no one would accept from it."""
        self._connection.close()
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def wait_for_go(self) -> bool:
        """Block until the ledger may be opened. False: the old process has ended. Raises OSError: it does not answer.

        For the ledger's thread; `ready` is called by another one meanwhile.
        """
        waited_s = 0
        while waited_s < _GO_S:
            readable, _, _ = select.select([self._connection], [], [], 1.0)
            if readable:
                try:
                    return bool(self._connection.recv(len(_GO)))
                except ConnectionError:
                    return False
            waited_s += self._ready
        raise OSError(f"the process that serves now has not answered for {_GO_S} s; it serves on")


def take_over(path: Path) -> Takeover | None:
    """The sockets of the process that serves now; None: there is none. Raises CliError."""
    _refuse_other_files(path)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_GREETING_S)
    try:
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            return None
        greeting, descriptors, _, _ = socket.recv_fds(connection, 256, _MOST_SOCKETS)
    except OSError as error:
        connection.close()
        message = f"--handover {path}: the process that serves now does not answer: {error.strerror or error}"
        raise CliError(message) from None
    names = greeting.removeprefix(_GREETING).decode().split()
    if not greeting.startswith(_GREETING) or len(names) != len(descriptors):
        for descriptor in descriptors:
            os.close(descriptor)
        connection.close()
        raise CliError(f"--handover {path}: no gateway hands over here, or it is of another user: remove the file")
    connection.settimeout(None)
    return Takeover(connection, dict(zip(names, descriptors, strict=True)))


def passed_by_systemd() -> dict[str, socket.socket]:
    """Listening sockets of a systemd socket unit: the first is the API's, a second one the admin API's.

    Raises CliError: one does not listen for TCP.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count = int(os.environ.get("LISTEN_FDS", "0"))
    found = {}
    for name, descriptor in zip(("api", "admin"), range(_FIRST_PASSED, _FIRST_PASSED + count), strict=False):
        found[name] = listener = socket.socket(fileno=descriptor)
        if listener.family not in {socket.AF_INET, socket.AF_INET6} or listener.type != socket.SOCK_STREAM:
            listener.close()
            raise CliError("the socket unit passes a socket that is not for TCP: ListenStream= takes ADDRESS:PORT here")
        listener.setblocking(False)
        listener.set_inheritable(False)
    return found


def _refuse_other_files(path: Path) -> None:
    """Raises CliError: what is there would be lost when the socket replaces it."""
    if path.exists() and not path.is_socket():
        raise CliError(f"--handover {path}: this is not a Unix socket, and is not replaced: give another name")


def _listen(path: Path) -> socket.socket:
    """Raises CliError."""
    _refuse_other_files(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The new file has this mode, and others cannot connect even for a moment.
        os.fchmod(listener.fileno(), 0o600)
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen(4)
    except OSError as error:
        listener.close()
        raise CliError(f"--handover {path}: {error.strerror or error}") from None
    return listener


async def offer(
    path: Path, descriptors: Mapping[str, int], give_up: Callable[[], Awaitable[None]], handed_over: trio.Event
) -> None:
    """The old process's side: wait for a successor. `give_up` stops accepting; then `handed_over` is set.

    What goes wrong here is logged: the process serves on without it.
    """
    try:
        listener = trio.socket.from_stdlib_socket(_listen(path))
    except CliError as error:
        log.error("handover_off", error=str(error))  # noqa: TRY400  (the message says all)
        return
    with listener:
        while True:
            connection, _ = await listener.accept()
            with connection:
                try:
                    succeeded = await _is_succeeded(connection, descriptors)
                except OSError as error:
                    log.warning("handover_failed", error=str(error))
                    continue
                if succeeded:
                    listener.close()
                    await give_up()
                    # Nothing is accepted any more, so this process ends even if the new one has died.
                    with contextlib.suppress(OSError):
                        await connection.send(_GO)
                    handed_over.set()
                    return


async def _is_succeeded(connection: trio.socket.SocketType, descriptors: Mapping[str, int]) -> bool:
    """Send the sockets, and wait until the new process can serve. False: it has ended before."""
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if user not in {0, os.getuid()}:
        log.warning("handover_refused", user=user)
        return False
    log.info("handover_begins")
    names = _GREETING + " ".join(descriptors).encode() + b"\n"
    fds = struct.pack(f"{len(descriptors)}i", *descriptors.values())
    await connection.sendmsg([names], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    said = b""
    while len(said) < len(_READY) and (part := await connection.recv(len(_READY) - len(said))):
        said += part
    if said != _READY:
        log.warning("handover_failed", error="the new process ended before it was ready; this one serves on")
    return said == _READY
