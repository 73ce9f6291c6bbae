"""The operations of the admin API. Owns no state."""

from collections.abc import Mapping

import msgspec
import structlog
import trio

from actors.api.errors import InvalidRequest, Unavailable
from actors.control.breaker_control import BreakerControl
from actors.control.key_control import KeyControl
from actors.control.policy_reloader import ConfigProcess, PolicyStatus, Reload, ReloaderMessage, ReloadTrigger
from actors.engines.adapter_registry import AdapterRegistry
from actors.kernel.actor import Mailbox, Reply
from actors.kernel.clock import WallClock
from actors.kernel.errors import ActorDied, MailboxClosed, MailboxFull
from actors.protocol.ledger import Flush, LedgerMessage, WriteRollBack
from actors.routing.key_check import check_role, granted
from actors.routing.router import Router
from config.problems.errors import ConfigError, Problem
from config.source import ConfigSource
from policies.admission.admin_roles import role_needed
from policies.lifecycle.reload import ReloadResult, compare
from policies.records.decision_log import DecisionLog
from policies.records.decision_record import DecisionRecord
from policies.rollout.rollout_state import ArmView, RolloutState
from policies.rollout.shadow import ShadowBook, ShadowView

_WRITTEN_S = 5.0
_NO_SOURCE = "The server runs without a configuration file, so nothing can be reloaded; start it with --config."
log = structlog.get_logger()


class PolicyView(msgspec.Struct, frozen=True):
    """The policy in force."""

    policy: str
    """Its digest."""
    since: float
    """Seconds since 1970."""
    files: tuple[str, ...]
    warnings: tuple[Problem, ...]
    """Warnings about them."""
    reloads: Mapping[str, int]
    """By outcome, since the start."""
    last_refusal: tuple[Problem, ...]
    """Why the last reload was refused; empty if it was not."""


class CheckResult(msgspec.Struct, frozen=True):
    """The result of checking a configuration."""

    good: bool
    """It could be swapped in now."""
    problems: tuple[Problem, ...]
    """Only warnings if it is good."""
    changed: tuple[str, ...] = ()
    """Sections that differ from the running configuration."""
    needs_restart: tuple[str, ...] = ()


class ExperimentSummary(msgspec.Struct, frozen=True):
    """One experiment's state."""

    name: str
    routes: tuple[str, ...]
    unit: str
    percent: Mapping[str, float]
    """Configured share, by arm."""
    rolled_back: bool
    why: str
    sample_ratio_off: bool
    arms: Mapping[str, ArmView]


class AdminService:
    """Raises `Refusal` for what cannot be done."""

    def __init__(
        self,
        *,
        router: Router,
        published: PolicyStatus,
        reloader: Mailbox[ReloaderMessage],
        source: ConfigSource | None,
        workers: ConfigProcess,
        rollout: RolloutState,
        decisions: DecisionLog,
        shadows: ShadowBook,
        registry: AdapterRegistry,
        ledger: Mailbox[LedgerMessage],
        breakers: BreakerControl,
        keys: KeyControl,
        wall: WallClock,
    ) -> None:
        """`source` None: the settings cannot be read again."""
        self._router = router
        self._published = published
        self._reloader = reloader
        self._source = source
        self._workers = workers
        self._rollout = rollout
        self._decisions = decisions
        self._shadows = shadows
        self._ledger = ledger
        self._wall = wall
        self.adapters = registry
        self.breakers = breakers
        self.keys = keys

    @property
    def keyless(self) -> bool:
        """The admin API needs no key."""
        return not self._router.snapshot.settings.admin.keys

    def check_key(self, key: str | None, method: str, path: str) -> str:
        """Whether the key opens this address (decoded), and its id; "" if none is needed.

        Raises BadKey and Forbidden; clients' keys give no access.
        """
        if self.keyless:
            return ""
        snapshot, at = self._router.snapshot, self._wall()
        if path.rstrip("/") == "/metrics":
            # Keys of scrapers are valid here, too.
            snapshot.check_operator_or_scraper(key, at)
            return ""
        admins, _ = snapshot.operators
        grant = granted(admins, key, at)
        check_role(grant, role_needed(method, path))
        return grant.id

    def policy(self) -> PolicyView:
        published, snapshot = self._published, self._router.snapshot
        files = () if self._source is None else tuple(map(str, self._source.files(snapshot.settings)))
        return PolicyView(
            snapshot.policy.digest,
            published.since,
            files,
            published.warnings,
            dict(published.reloads),
            published.problems,
        )

    def reload_soon(self, asked_by: ReloadTrigger) -> None:
        """Read the configuration again, and swap the policy if it is good; the outcome is logged."""
        try:
            self._reloader.put_nowait(Reload(asked_by))
        except MailboxClosed:
            log.error("policy_reloader_off", asked_by=asked_by)  # noqa: TRY400  (the reason was logged when it ended)
        except MailboxFull:
            # The reloads that wait already will read the same files.
            log.info("policy_reload_waits", asked_by=asked_by)

    async def reload(self) -> ReloadResult:
        """The same, and wait for the outcome. Raises Refusal."""
        if self._source is None:
            raise InvalidRequest(_NO_SOURCE, code="no_source")
        reply: Reply[ReloadResult] = Reply()
        try:
            self._reloader.put_nowait(Reload("admin", reply))
            return await reply.wait()
        except MailboxClosed:
            raise Unavailable(
                "reloader_off", "The policy reloader has stopped after repeated failures. Restart the server."
            ) from None
        except MailboxFull as full:
            log.info("policy_reload_waits", asked_by="admin", why=str(full))
            raise Unavailable("reload_busy", "A reload is already in progress; try again.", 1.0) from None
        except ActorDied:
            raise Unavailable("reload_busy", "The reload was interrupted; try again.", 1.0) from None

    async def check(self, text: str) -> CheckResult:
        """What a reload would report if the configuration were this TOML; nothing is applied."""
        source = self._source
        if source is None:
            raise InvalidRequest(_NO_SOURCE, code="no_source")
        before = self._router.snapshot.settings
        try:
            loaded = source.finished(await self._workers.read_config(source.text_path, text))
        except ConfigError as error:
            return CheckResult(good=False, problems=error.problems)
        change = compare(before, loaded.settings)
        return CheckResult(not change.restart, loaded.warnings, change.live, change.restart)

    def decision(self, request_id: str) -> DecisionRecord | None:
        """None: unknown, or too long ago."""
        return self._decisions.find(request_id)

    def experiments(self) -> tuple[ExperimentSummary, ...]:
        views = self._rollout.experiments()
        return tuple(
            ExperimentSummary(
                name=each.name,
                routes=each.route,
                unit=each.unit,
                percent=each.arms,
                rolled_back=views[each.name].rolled_back,
                why=views[each.name].why,
                sample_ratio_off=views[each.name].sample_ratio_off,
                arms=views[each.name].arms,
            )
            for each in self._router.snapshot.settings.experiments
        )

    def shadows(self) -> Mapping[str, ShadowView]:
        return self._shadows.views()

    async def roll_back(self, experiment: str) -> bool:
        """All of its traffic goes to control from the next published load on. False: the name is unknown.

        Returns when it is committed. Raises Unavailable: it is in force, but a restart may lose it.
        """
        roll_back = self._rollout.roll_back(experiment, "rolled back by an operator")
        if roll_back is None:
            return False
        log.warning("experiment_rolled_back", subject=experiment, by="admin")
        written: Reply[None] = Reply()
        self._ledger.put_unbounded(WriteRollBack(roll_back))
        self._ledger.put_unbounded(Flush(written))
        try:
            with trio.fail_after(_WRITTEN_S):
                await written.wait()
        except (ActorDied, trio.TooSlowError):
            raise Unavailable(
                "ledger_unavailable",
                "The experiment is rolled back, but this may be lost at a restart; send the request again.",
                1.0,
            ) from None
        return True
