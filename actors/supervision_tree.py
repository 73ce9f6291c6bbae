"""The supervision tree: how far a failure spreads.

service                             a failure here ends the process, with its exit code
├── core                            5 restarts in 60 s, then it escalates
│   └── ledger, timers, admission, breakers, dispatcher
├── backends                        never gives up
│   ├── backend NAME                5 restarts in 60 s, then it is marked down, and tried again after a pause
│   │   └── engine NAME, or its replicas; or upstream NAME
│   └── ...
└── auxiliaries                     never gives up
    ├── auxiliary recorder          5 restarts in 60 s, then it is off for good
    │   └── recorder
    └── shadows, policy reloader, kept answers, batches, stored responses    likewise

Children start in this order and are stopped in reverse. The pause of a backend that is down grows from half a minute to
ten minutes, as it may take long to load and its device may be gone; one that fails at its first load ends the process.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import msgspec
import structlog
import trio

from actors.admission.admission import Admission
from actors.api.engine_status import EngineStatus
from actors.breakers.breakers import Breakers
from actors.control.policy_reloader import PolicyReloader
from actors.engines.engine_actor import EngineActor
from actors.kernel.actor import Mailbox
from actors.kernel.supervisor import Child, Supervisor
from actors.kernel.timers import TimerLoop
from actors.ledger.ledger import Ledger
from actors.protocol.job import BackendDown, EngineMessage, QueueMessage
from actors.queue.dispatcher import Dispatcher
from actors.recording.recorder import Recorder
from actors.shadows.shadows import Shadows
from actors.upstream.upstream_actor import UpstreamActor
from policies.lifecycle.supervision import Backoff

_DOWN = Backoff(first_s=30.0, factor=2.0, longest_s=600.0)
_FORGIVEN_S = 3600.0
"""After this long without a failure a backend's pause is the shortest one again."""
log = structlog.get_logger()


class ActorTypes(msgspec.Struct, frozen=True):
    """The actors' classes: a port through which tests inject faulty actors."""

    ledger: type[Ledger] = Ledger
    timers: type[TimerLoop] = TimerLoop
    admission: type[Admission] = Admission
    breakers: type[Breakers] = Breakers
    dispatcher: type[Dispatcher] = Dispatcher
    engine: type[EngineActor] = EngineActor
    upstream: type[UpstreamActor] = UpstreamActor
    recorder: type[Recorder] = Recorder
    shadows: type[Shadows] = Shadows
    policy_reloader: type[PolicyReloader] = PolicyReloader


class TreeStatus:
    """The tree's published status; outlives all restarts."""

    def __init__(self) -> None:
        self.restarts: dict[str, int] = {}
        """By actor."""
        self.off: dict[str, bool] = {}
        """By auxiliary: whether it has failed too often."""


class BackendReplica(msgspec.Struct, frozen=True):
    """One actor of a backend, with what it publishes."""

    child: Child
    status: EngineStatus
    mailbox: Mailbox[EngineMessage]


def service_tree(
    status: TreeStatus, core: Sequence[Child], backends: Iterable[Child], auxiliaries: Iterable[Child]
) -> Supervisor:
    """The root. Its children are groups; see `backend` and `auxiliary`."""
    group = partial(Supervisor, restarts=status.restarts)
    return Supervisor(
        [
            Child("core", partial(group, core)),
            Child(
                "backends",
                partial(group, tuple(backends), intensity=None, period_s=_FORGIVEN_S, backoff=_DOWN),
            ),
            Child("auxiliaries", partial(group, tuple(auxiliaries), intensity=None)),
        ],
        intensity=0,
        restarts=status.restarts,
    )


def backend(
    name: str, replicas: Sequence[BackendReplica], status: TreeStatus, dispatch: Mailbox[QueueMessage]
) -> Child:
    """The supervisor of an engine's replicas or of an upstream. While one replica fails, others serve on."""

    def make() -> Supervisor:
        for replica in replicas:
            replica.mailbox.reopen()
        return Supervisor([replica.child for replica in replicas], stand_in=True, restarts=status.restarts)

    def ended(reason: str, pause_s: float | None) -> None:
        assert pause_s is not None, "a backend is started again, however often it fails"
        log.error("backend_down", backend=name, reason=reason, pause_s=round(pause_s, 1))
        for replica in replicas:
            published = replica.status
            published.state = "failed"
            published.why = f"marked down: {reason}; it is started again after a pause of {pause_s:.0f} s"
            published.down_until = trio.current_time() + pause_s
            # Senders must not wait for the next life.
            replica.mailbox.close()
        dispatch.put_unbounded(BackendDown(name))

    return Child(f"backend {name}", make, ended=ended)


def auxiliary(child: Child, status: TreeStatus, on_off: Callable[[], None] | None = None) -> Child:
    """The supervisor of an actor that no answer depends on. `on_off` is called when it has failed too often."""
    name = child.name
    status.off[name] = False

    def ended(reason: str, _: float | None) -> None:
        log.error("auxiliary_off", auxiliary=name, reason=reason)
        status.off[name] = True
        if on_off is not None:
            on_off()
        if child.mailbox is not None:
            child.mailbox.close()

    return Child(
        f"auxiliary {name}",
        partial(Supervisor, [child], restarts=status.restarts),
        restart="temporary",
        ended=ended,
    )
