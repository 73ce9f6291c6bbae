"""Tenants' keys as operators make, replace and revoke them: first in the keys file, then in force."""

import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from actors.api.errors import Conflict, InvalidRequest, NotFound, Refusal, Unavailable
from actors.control.policy_reloader import ApplyKeys, ReloaderMessage
from actors.kernel.actor import Mailbox, Reply
from actors.kernel.clock import WallClock
from actors.kernel.errors import ActorDied, MailboxClosed, MailboxFull
from actors.kernel.thread_bridge import WorkerPool
from actors.routing.router import Router
from config.model.settings import Settings
from config.model.table import Moment
from config.model.tenancy import KeyEndpoint, KeySettings, StoredKeys
from config.model.units import parse_expiry, parse_span
from config.parse.keys_file import BadKeysFile, change_keys_file, read_keys_file
from policies.admission.key_changes import added, found, replaced, replacement, revoked, taken_ids
from policies.admission.key_states import KeyState, key_state, key_states
from policies.admission.keys import PREFIX, RANDOM_BYTES, new_key
from policies.errors import KeyRefused

T = TypeVar("T")
_NOT_FOUND = frozenset({"key_not_found", "tenant_not_found"})
_BAD = frozenset({"model_not_found"})
log = structlog.get_logger()


class MadeKey(msgspec.Struct, frozen=True, kw_only=True):
    """A new key, as its owner gets it."""

    key: str
    """The key itself: it is stored nowhere, and not shown again."""
    made: KeyState
    replaces: KeyState | None = None
    """The key that ends when the overlap does."""

    def __repr__(self) -> str:
        return f"MadeKey(key=<secret>, made={self.made!r})"


class KeyControl:
    """Owns no state: the keys file does, and the policy in force. Everything raises `Refusal`."""

    def __init__(
        self, router: Router, reloader: Mailbox[ReloaderMessage], workers: WorkerPool, wall: WallClock
    ) -> None:
        self._router = router
        self._reloader = reloader
        self._workers = workers
        self._wall = wall

    def states(self) -> list[KeyState]:
        """All keys in force."""
        return key_states(self._settings, self._wall())

    async def create(
        self,
        tenant: str,
        *,
        key_id: str | None,
        expires: str | None,
        models: tuple[str, ...],
        endpoints: tuple[KeyEndpoint, ...],
        by: str,
    ) -> MadeKey:
        """A new key of the tenant. `expires`: a span or a moment, as in TOML. `by`: the operator's key."""
        try:
            new = new_key(tenant, secrets.token_bytes(RANDOM_BYTES), key_id)
        except ValueError as error:
            raise InvalidRequest(f"{error}.", param="id", code="bad_key_id") from None
        ends = self._moment(expires)
        key = msgspec.structs.replace(new.settings, expires=ends, models=models, endpoints=endpoints)
        await self._change(partial(added, key=key, settings=self._settings))
        log.info("key_created", by=by, key=key.id, tenant=tenant, expires=ends, models=models, endpoints=endpoints)
        return MadeKey(key=new.raw, made=self._state(key))

    async def rotate(self, key_id: str, *, overlap: str, expires: str | None, by: str) -> MadeKey:
        """The key that follows this one, which stays valid for the span `overlap`."""
        try:
            overlap_s = parse_span(overlap, self._wall())
        except ValueError as error:
            raise InvalidRequest(f"'overlap': {error}.", param="overlap", code="bad_duration") from None
        stored, settings = await self._stored(), self._settings
        old = _refused(lambda: found(stored, key_id, settings))
        change = replacement(
            old,
            taken_ids(stored, settings),
            secrets.token_bytes(RANDOM_BYTES),
            prefix=PREFIX,
            now=self._wall(),
            overlap_s=overlap_s,
            expires=self._moment(expires),
        )
        await self._change(partial(replaced, by=change, old_id=key_id, settings=settings))
        log.info("key_rotated", by=by, key=key_id, until=change.until, new=change.id, expires=change.expires)
        new, ended = change.new(old), change.ended(old)
        return MadeKey(key=change.raw, made=self._state(new), replaces=self._state(ended))

    async def revoke(self, key_id: str, *, by: str) -> None:
        """Refused from the next request on; running answers end as they would."""
        await self._change(partial(revoked, key_id=key_id, settings=self._settings))
        log.warning("key_revoked", by=by, key=key_id)

    @property
    def _settings(self) -> Settings:
        return self._router.snapshot.settings

    def _moment(self, text: str | None) -> Moment | None:
        try:
            return None if text is None else parse_expiry(text, self._wall())
        except ValueError as error:
            raise InvalidRequest(f"'expires': {error}.", param="expires", code="bad_time") from None

    def _state(self, key: KeySettings) -> KeyState:
        return key_state(key, self._wall(), stored=True)

    def _file(self) -> Path:
        path = self._settings.admin.keys_file
        if path is None:
            raise Conflict(
                "no_keys_file",
                "The keys are in the configuration only: change them there, or name a `keys_file` in [admin], where "
                "the admin API may keep keys.",
            )
        return path

    async def _stored(self) -> StoredKeys:
        path = self._file()
        return await self._written(lambda: read_keys_file(path))

    async def _change(self, change: Callable[[StoredKeys], StoredKeys]) -> None:
        """Returns when it is on disk and in force."""
        path = self._file()
        await self._written(lambda: change_keys_file(path, change))
        reply: Reply[bool] = Reply()
        try:
            self._reloader.put_nowait(ApplyKeys(reply))
            applied = await reply.wait()
        except (MailboxClosed, MailboxFull, ActorDied):
            applied = False
        if not applied:
            raise Unavailable(
                "keys_not_applied",
                "The change is in the keys file, but not in force: see the log, and reload or restart the server.",
            )

    async def _written(self, job: Callable[[], T]) -> T:
        try:
            return await self._workers.run_in_thread(partial(_refused, job))
        except (BadKeysFile, OSError) as error:
            log.error("keys_file_failed", why=str(error))  # noqa: TRY400  (the words are all that there is to it)
            raise Unavailable(
                "keys_file_failed", f"The keys file cannot be used: {error}. Nothing was changed."
            ) from None


def _refused(job: Callable[[], T]) -> T:
    """Turns KeyRefused into the error that operators read."""
    try:
        return job()
    except KeyRefused as refused:
        code, message = refused.code, str(refused)
    refusal: Refusal
    if code in _NOT_FOUND:
        refusal = NotFound(code, message)
    elif code in _BAD:
        refusal = InvalidRequest(message, param="models", code=code)
    else:
        refusal = Conflict(code, message)
    raise refusal
