"""One case, declared; what its run gave; and the one runner of all that need no process of their own."""

import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import trio
from structlog.testing import capture_logs

from config.source import ConfigSource
from tests.actors.upstream.network import Server
from tests.fault_table.scene import SERVICE, Scene, scene, simulated
from tests.fault_table.seen import Seen, Transport

Verdict = Literal["rescued", "no harm", "true error", "the client left", "cut", "DRESSED"]
"""See `document.VERDICTS`."""
_FAULT_ENDS_S = 100.0
"""How much longer than the request a fault lasts, at most."""
Fault = Callable[[Scene], Any]
"""Arms the fault; an async one runs beside the request."""


@dataclass(frozen=True)
class Case:
    """What is done, and to which request."""

    group: str
    what: str
    fault: Fault
    transport: Transport = "SSE"
    asked: str = ""
    """What is special about the request, in words."""
    body: Mapping[str, Any] = field(default_factory=dict)
    scripts: Mapping[str, Any] = field(default_factory=dict)
    servers: Mapping[str, Server] = field(default_factory=dict)
    """Upstreams without faults, by host: of these is the answer that would have been."""
    settings: str = SERVICE
    client: Callable[[Scene, "Case"], Awaitable[Seen]] | None = None
    """How the client behaves; None: it reads to the end."""
    settles_s: float = 5.0
    """How long afterwards what was broken may take to be in order again."""
    limits: Mapping[str, Any] = field(default_factory=dict)
    workers: Mapping[str, Any] = field(default_factory=dict)
    reloads: bool = False
    """The policy is a file."""
    says_why: str = ""
    """The finish reason by which a client knows that this is not the answer that it would have been."""

    @property
    def name(self) -> str:
        return f"{self.group}: {self.what}" + (f", {self.asked}" if self.asked else "") + f" ({self.transport})"

    def run(self) -> "FaultRow":
        """On the simulated clock."""
        with capture_logs(), tempfile.TemporaryDirectory() as folder:
            row: FaultRow = simulated(partial(_run, self, Path(folder)))
        return row


@dataclass(frozen=True)
class FaultRow:
    """One line of the document."""

    group: str
    what: str
    asked: str
    transport: str
    saw: str
    verdict: Verdict
    billed: str
    recovery: str
    left: str

    @property
    def name(self) -> str:
        return f"{self.group}: {self.what}" + (f", {self.asked}" if self.asked else "") + f" ({self.transport})"


async def _run(case: Case, folder: Path) -> FaultRow:
    (folder / "legal").mkdir()
    (folder / "legal" / "adapter_model.safetensors").write_text("legal")
    settings = case.settings.replace("FOLDER", str(folder))
    source = None
    if case.reloads:
        (folder / "service.toml").write_text(settings)
        source = ConfigSource(folder / "service.toml")
    async with scene(
        folder,
        settings=settings,
        scripts=case.scripts,
        servers=case.servers,
        source=source,
        limits=case.limits,
        blocks=1024,
        **case.workers,
    ) as here:
        began_at = trio.current_time()
        uncut = await here.ask(case.transport, case.body)
        uncut_s = trio.current_time() - began_at
        assert uncut.done, f"{case.name}: without the fault it ends with {uncut.error}"
        before = set(here.service.rows())
        here.seen = Seen(case.transport)
        began_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            armed = case.fault(here)
            if armed is not None:
                nursery.start_soon(_awaited, armed)
            if case.client is None:
                await here.ask(case.transport, case.body, seen=here.seen)
            else:
                await case.client(here, case)
            ended_at = trio.current_time()
            nursery.cancel_scope.deadline = ended_at + _FAULT_ENDS_S
        here.service.on_step.clear()
        here.network.servers.update(case.servers)
        here.network.refuses.clear()
        left = await _left(here, case)
        rows = [row for name, row in here.service.rows().items() if name not in before]
        return FaultRow(
            case.group,
            case.what,
            case.asked,
            case.transport,
            saw(here.seen),
            verdict(here, case, uncut),
            billed(rows[-1:], here),
            recovery(here, uncut_s, ended_at - began_at, ended_at),
            left,
        )


async def _awaited(armed: Awaitable[None]) -> None:
    await armed


def saw(seen: Seen) -> str:
    """In few words, what the client saw."""
    count = seen.usage[1] if seen.usage is not None else 0
    pieces = f"{seen.pieces} piece{'s' * (seen.pieces != 1)}"
    if seen.done:
        reasons = sorted({each.reason or "?" for each in seen.choices.values()})
        end = {"SSE": ", `[DONE]`", "WebSocket": ", `done`", "whole": ""}[seen.transport]
        return f"{seen.status}, the whole answer: {count} tokens, {', '.join(reasons)}{end}"
    if seen.left:
        return f"left after {pieces}" if seen.pieces else "left"
    if seen.lost:
        return f"{pieces}, then the connection was closed"
    wait = f", `Retry-After` {seen.retry_after}" if seen.retry_after else ""
    if seen.pieces:
        return f"{pieces}, then the error `{seen.error}`"
    if seen.transport == "SSE" and seen.status == 200:
        return f"200, then the error `{seen.error}`"
    return f"{seen.status} `{seen.error}`{wait}"


def verdict(here: Scene, case: Case, uncut: Seen) -> Verdict:
    seen = here.seen
    assert seen is not None
    assert seen.ended <= 1, f"{case.name}: it ended {seen.ended} times"
    if seen.done:
        if case.says_why and {each.reason for each in seen.choices.values()} == {case.says_why}:
            return "true error"
        if seen.content() != uncut.content():
            return "DRESSED"
        record = here.service.service.admin.decision(seen.request_id)
        failed = record is not None and any(each.outcome in {"failed", "refused"} for each in record.attempts)
        return "rescued" if failed else "no harm"
    if seen.left:
        return "the client left"
    return "cut" if seen.lost else "true error"


def billed(rows: list[dict[str, Any]], here: Scene) -> str:
    """What the ledger says of the faulted request; a token costs one unit of money in this table."""
    if not rows:
        return "nothing"
    (row,) = rows
    seen = here.seen
    assert seen is not None
    if seen.done and seen.usage is not None:
        assert seen.usage == (row["prompt_tokens"], row["completion_tokens"]), "the ledger and the client disagree"
    text = f"{row['prompt_tokens']} + {row['completion_tokens']}"
    if row["discarded_tokens"]:
        text += f" (+ {row['discarded_tokens']} unseen)"
    cost = row["cost"] or 0
    return f"{text}, money for {cost:g}; `{row['outcome']}`"


def recovery(here: Scene, uncut_s: float, took_s: float, ended_at: float) -> str:
    """Of an answer: how much longer it took than without the fault. Of an error: how long after the fault it came."""
    seen = here.seen
    assert seen is not None
    if seen.done:
        return f"+{max(took_s - uncut_s, 0):.1f} s"
    if here.struck_at is None or seen.left:
        return "–"
    return f"{ended_at - here.struck_at:.1f} s"


async def _left(here: Scene, case: Case) -> str:
    """What is left of the request: "clean" if nothing is."""
    await trio.sleep(case.settles_s)
    try:
        await here.service.assert_clean()
    except AssertionError as error:
        return f"NOT CLEAN: {str(error).splitlines()[0] if str(error) else 'see `assert_clean`'}"
    upstreams = here.service.service.statistics().upstreams
    open_calls = sum(each.running + each.waiting for each in upstreams.values())
    return "clean" if not open_calls else f"NOT CLEAN: {open_calls} calls of upstreams"
