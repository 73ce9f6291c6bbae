"""What the ledger's file knows of the time before: the same as the books of the process that wrote it."""

import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio

from actors.api.errors import Unavailable
from actors.ledger.store import LedgerBatch, Opened, Store
from actors.protocol.ledger import EntryClosing, EntryProgress, LedgerEntry
from config.model.routing import Target
from config.model.settings import Settings
from config.model.tenancy import Budget, Price, TenantSettings, TokenQuota
from policies.admission.quota import QuotaBook, QuotaRefusal, Reservation
from policies.rollout.experiment import RollBack
from tests.actors.clock_workers import InlineStore, connection
from tests.actors.fakes import CONFIG, says, settings_of, stage
from tests.policies.cascade.test_calibration import CALIBRATION

AT = 1_800_000_030.0
"""Thirty seconds into a minute, an hour and a slice."""
MINUTE = {"tokens": TokenQuota(per_minute=1_000)}
DAY = {"tokens": TokenQuota(per_day=1_000)}
REQUESTS = {"requests_per_minute": 2}


Row = tuple[float, str, tuple[int, int, int], int]
"""Age in seconds, outcome ("": still open), tokens (prompt, completion, discarded), reserved."""


def write(store: Store, number: int, row: Row) -> None:
    age_s, outcome, tokens, reserved = row
    store.commit(LedgerBatch((LedgerEntry(number, f"r{number}", "acme", "m", "route", tokens[0], reserved, 0.5),)))
    connection(store).execute(
        "UPDATE requests SET opened_at = strftime('%Y-%m-%dT%H:%M:%fZ', ?, 'unixepoch') WHERE number = ?",
        (AT - age_s, number),
    )
    prompt, completion, discarded = tokens
    if completion and not outcome:
        store.commit(LedgerBatch((EntryProgress(number, prompt, completion, 0.25),)))
    if outcome:
        store.commit(
            LedgerBatch((EntryClosing(number, "acme", "r", outcome, "w", prompt, completion, discarded, 0.25),))
        )


def restored(path: Path, limits: dict[str, object], at: float = AT) -> QuotaBook:
    """A new process's book."""
    store = Store(path, "second")
    book = QuotaBook({"acme": TenantSettings(**limits)})  # type: ignore[arg-type]
    for tenant, used in store.spent(at).used.items():
        book.restore(tenant, used, 5.0)
    store.close()
    book.check_integrity()
    return book


@pytest.mark.parametrize(
    ("limits", "rows", "limit", "used"),
    [
        (DAY, [(40, "ok", (10, 5, 99), 100)], "tokens_per_day", 15),
        (DAY, [(40, "gone", (10, 5, 20), 100)], "tokens_per_day", 35),
        (DAY, [(40, "gone", (10, 5, 200), 100)], "tokens_per_day", 100),
        (DAY, [(40, "ok", (10, 500, 0), 100)], "tokens_per_day", 100),
        (DAY, [(40, "failed", (10, 5, 3), 100)], "tokens_per_day", 15),
        (DAY, [(40, "refused", (0, 0, 0), 100), (40, "ok", (1, 1, 0), 9)], "tokens_per_day", 2),
        (DAY, [(40, "", (10, 0, 0), 100)], "tokens_per_day", 0),
        (DAY, [(40, "", (10, 7, 0), 100)], "tokens_per_day", 17),
        (DAY, [(86_000, "ok", (10, 5, 0), 100), (90_000, "ok", (700, 5, 0), 900)], "tokens_per_day", 15),
        (DAY, [(-3_000, "ok", (10, 5, 0), 100)], "tokens_per_day", 15),
        (DAY, [(-9e6, "ok", (10, 5, 0), 100), (1, "ok", (1, 2, 0), 100)], "tokens_per_day", 3),
        (MINUTE, [(20, "ok", (10, 5, 0), 100), (70, "ok", (900, 5, 0), 990)], "tokens_per_minute", 15),
        (MINUTE, [(59.5, "", (10, 5, 0), 100)], "tokens_per_minute", 15),
        (MINUTE, [(-20, "ok", (10, 5, 0), 100)], "tokens_per_minute", 15),
        (
            REQUESTS,
            [(20, "ok", (1, 1, 0), 9), (9, "", (1, 0, 0), 9), (8, "refused", (0, 0, 0), 9)],
            "requests_per_minute",
            2,
        ),
    ],
)
def test_what_was_used_counts_on(tmp_path, limits, rows, limit: str, used: int) -> None:
    store = Store(tmp_path / "ledger", "first")
    for number, row in enumerate(rows):
        write(store, number, row)
    # Not closed: the process was killed.
    book = restored(tmp_path / "ledger", limits)
    store.close()
    refusal = book.reserve("acme", 1_001 - used, 5.0)
    assert isinstance(refusal, QuotaRefusal)
    assert (refusal.limit, refusal.used) == (limit, used)
    # It goes when it would have gone, a slice later at the most.
    later = 5.0 + (61 + 2 if limit.endswith("minute") else 86_400 + 600)
    assert isinstance(book.reserve("acme", 1_000, later), Reservation)


def test_a_file_of_the_second_version_is_summed_up_once(tmp_path) -> None:
    path = tmp_path / "ledger"
    store = Store(path, "first")
    write(store, 1, (40, "ok", (10, 5, 0), 100))
    store.close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(
        "DROP TABLE used; DROP TABLE spent; DROP TABLE rolled_back; ALTER TABLE requests DROP COLUMN degraded;"
        f"UPDATE requests SET opened_at = strftime('%Y-%m-%dT%H:%M:%fZ', {time.time()}, 'unixepoch');"
        "PRAGMA user_version = 2"
    )
    connection.close()
    for _ in range(2):
        store = Store(path, "now")
        spent = store.spent(time.time())
        assert spent.by_tenant == {"acme": {"hour": 0.25, "day": 0.25, "month": 0.25}}
        assert [each.tokens for each in spent.used["acme"] if each.window == "day"] == [15]
        store.close()


def test_a_file_of_the_third_version_keeps_its_money(tmp_path) -> None:
    path = tmp_path / "ledger"
    store = Store(path, "first")
    write(store, 1, (40, "ok", (10, 5, 0), 100))
    store.close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(
        "ALTER TABLE requests DROP COLUMN cascade; DROP TABLE spent; CREATE TABLE spent (start INTEGER NOT NULL, "
        "tenant TEXT NOT NULL, route TEXT NOT NULL, cost REAL NOT NULL, PRIMARY KEY (start, tenant, route));"
        f"UPDATE requests SET opened_at = strftime('%Y-%m-%dT%H:%M:%fZ', {time.time()}, 'unixepoch');"
        "PRAGMA user_version = 3"
    )
    connection.close()
    store = Store(path, "now")
    spent = store.spent(time.time())
    assert spent.by_tenant == {"acme": {"hour": 0.25, "day": 0.25, "month": 0.25}}
    assert spent.by_cascade == {}
    store.commit(LedgerBatch((LedgerEntry(1, "r", "acme", "m", "route", 1, 1, 0.5, "c"),)))
    store.commit(LedgerBatch((EntryClosing(1, "acme", "r", "ok", "w", 1, 1, 0, 0.5),)))
    assert store.spent(time.time()).by_cascade == {"c": 0.5}
    store.close()


def test_a_start_reads_sums_and_not_rows(tmp_path) -> None:
    """However many rows there are: none of the questions goes through the table of requests."""
    store = Store(tmp_path / "ledger", "first")
    write(store, 1, (40, "ok", (10, 5, 0), 100))
    asked: list[str] = []
    connection(store).set_trace_callback(asked.append)
    store.spent(AT)
    connection(store).set_trace_callback(None)
    plans = [row[3] for statement in asked for row in connection(store).execute(f"EXPLAIN QUERY PLAN {statement}")]
    assert any("by_tenant" in plan for plan in plans)
    assert not [plan for plan in plans if plan.startswith("SCAN") and "rolled_back" not in plan]
    store.close()


def test_roll_backs_are_kept_by_their_text(tmp_path) -> None:
    store = Store(tmp_path / "ledger", "first")
    for _ in range(2):
        store.commit(LedgerBatch((RollBack("e", "a", "bad"), RollBack("e", "b", "worse"))))
    assert store.spent(AT).roll_backs == (RollBack("e", "a", "bad"), RollBack("e", "b", "worse"))
    store.close()


GUARDED = (
    CONFIG
    + """
[[experiments]]
name = "try"
route = ["small"]
unit = "request"
arms = { control = 50, b = 50 }
override.b = { "routes.small.use" = { ladder = "large-only" } }
guard = { metrics = ["ttft_miss"], alpha = 0.2, min_requests = 5 }
"""
)


async def test_a_guard_s_roll_back_is_written_before_any_answer_decided_by_it(autojump_clock):
    settings = GUARDED.replace("[tiers.default]", '[tiers.default]\nslo = { ttft = "1s" }')
    async with stage({"small": says("ok"), "large": says("ok")}, settings=settings) as service:
        service.worker("large").step_s = 3.0
        written: list[object] = []
        commit = service.workers.store_file.commit

        def look(batch: LedgerBatch) -> None:
            written.extend(batch.lines)
            commit(batch)

        service.workers.store_file.commit = look
        for _ in range(80):
            if service.service.statistics().experiments["try"].rolled_back:
                break
            await service.ask("small", max_tokens=2)
        assert service.service.statistics().experiments["try"].rolled_back
        await trio.sleep(1)
        answer = await service.ask("small", max_tokens=2)
        assert answer.end.served.arm == "control"
        await service.assert_clean()
        kinds = [type(each).__name__ for each in written]
        last_line = len(kinds) - 1 - kinds[::-1].index("LedgerEntry")
        assert kinds.index("RollBack") < last_line
        assert [each.experiment for each in service.workers.store_file.spent(time.time()).roll_backs] == ["try"]


async def test_a_roll_back_by_hand_is_reported_when_it_is_written(autojump_clock):
    async with stage({"small": says("ok")}, settings=GUARDED) as service:
        service.workers.lock()
        with pytest.raises(Unavailable, match="may be lost at a restart"):
            await service.service.admin.roll_back("try")
        assert service.service.statistics().experiments["try"].rolled_back
        service.workers.unlock()
        assert await service.service.admin.roll_back("try")
        assert not await service.service.admin.roll_back("unknown")
        assert len(service.workers.store_file.spent(time.time()).roll_backs) == 1


def with_target(more: str = "") -> Settings:
    settings = settings_of(
        CONFIG.replace("[tiers.default]", "[tenants.anonymous]\ntokens = { per_day = 500 }\n[tiers.default]") + more
    )
    cascade = settings.cascades["gate"]
    defer = msgspec.structs.replace(cascade.defer, threshold=None, artefact=CALIBRATION)
    cascade = msgspec.structs.replace(cascade, defer=defer, target=Target(budget_per_day=100.0))
    price = Price(input=1e6, output=1e6)
    return msgspec.structs.replace(
        settings,
        cascades={**dict.fromkeys(settings.cascades, cascade), "window": settings.cascades["window"]},
        prices={"small": price, "large": price},
        tenants={"anonymous": msgspec.structs.replace(settings.tenants["anonymous"], budget=Budget(amount=4_000.0))},
    )


async def test_the_next_process_goes_on_with_quotas_budgets_and_targets(autojump_clock, tmp_path, monkeypatch):
    lives = iter(("first", "second"))
    monkeypatch.setattr("tests.actors.fakes.Store", lambda *_: Store(tmp_path / "ledger", next(lives)))
    async with stage({"small": says("okay")}, settings=with_target(), clean=False) as service:
        assert (await service.ask("whole", max_tokens=20)).refusal is None
        await service.assert_clean()
        spent = service.service.statistics().cascades["gate"].spent_today
        assert spent
        # It is killed before the answer begins.
        await service.open("whole", max_tokens=20)
        await trio.sleep(1)
    async with stage({"small": says("okay")}, settings=with_target()) as service:
        view = service.service.statistics().budgets["anonymous"]
        row = service.row("r2")
        assert (row["outcome"], row["cost"], view.reserved) == ("crashed", 0.0, 0.0)
        assert view.spent == pytest.approx(spent)
        assert service.service.statistics().cascades["gate"].spent_today == pytest.approx(view.spent)
        first = service.row("r1")
        used = first["prompt_tokens"] + first["completion_tokens"]
        refusal = (await service.ask("small", max_tokens=500 - used)).refusal
        assert refusal is not None
        assert f"tokens per day of tenant anonymous is reached: {used} in use" in refusal.body.message
        # What is left is left.
        assert (await service.ask("small", max_tokens=3)).refusal is None


HOUR, DAY = 3600.0, 86_400.0
CLOCKS = {
    # What the clock shows at each commit, seconds from AT; the hours and days of sums that are left.
    "goes on": ([0, HOUR, 3 * DAY, 4 * DAY, 64 * DAY], ([], [AT])),
    "goes on for longer": ([0, 64 * DAY, 65 * DAY], ([], [])),
    "is ahead for a while": ([0, 70 * DAY, 70 * DAY + 60, 120], ([AT], [AT])),
    "is ahead at the start": ([70 * DAY, 0, 60], ([AT], [AT])),
    "is set back": ([0, -70 * DAY, 60, HOUR], ([AT], [AT])),
}


@pytest.mark.parametrize("case", CLOCKS)
def test_sums_that_count_no_more_are_forgotten_but_not_because_of_a_clock_that_is_ahead(tmp_path, case):
    shows, expected = CLOCKS[case]
    now = [AT + shows[0]]
    store = Store(tmp_path / "ledger.sqlite3", "life", wall=lambda: now[0])
    write(store, 1, (0, "ok", (10, 5, 0), 100))
    for each in shows:
        now[0] = AT + each
        store.commit(LedgerBatch(()))
    execute = connection(store).execute
    found = tuple([[start for (start,) in execute(f"SELECT start FROM {table}")] for table in ("used", "spent")])
    assert found == ([at // 300 * 300 for at in expected[0]], [at // 3600 * 3600 for at in expected[1]])
    store.close()


TWO_CASCADES = """
[cascades.arm]
stages = ["small", "large"]
defer = { statistic = "min_margin", threshold = 1.0 }
emit = { mode = "gate" }
on_failure = "large-only"
[[experiments]]
name = "try"
route = ["gate"]
unit = "request"
arms = { control = 50, b = 50 }
override.b = { "routes.gate.use" = { cascade = "arm" } }
"""


async def test_an_arm_s_money_is_its_own_cascade_s_in_the_next_process(autojump_clock, tmp_path, monkeypatch):
    lives = iter(("first", "second"))
    monkeypatch.setattr("tests.actors.fakes.Store", lambda *_: Store(tmp_path / "ledger", next(lives)))
    async with stage({"small": says("okay")}, settings=with_target(TWO_CASCADES)) as service:
        for _ in range(12):
            await service.ask("whole", max_tokens=5)
        await service.assert_clean()
        before = service.service.statistics().cascades
        assert before["gate"].spent_today
        assert before["arm"].spent_today
    async with stage({"small": says("okay")}, settings=with_target(TWO_CASCADES)) as service:
        after = service.service.statistics().cascades
        for name in ("gate", "arm"):
            assert after[name].spent_today == pytest.approx(before[name].spent_today)


async def test_nobody_is_let_in_before_the_ledger_is_read(autojump_clock, monkeypatch):
    """An engine, or an upstream, may be there sooner than the disk."""
    held: list[Callable[[], None]] = []
    post = InlineStore.post

    def hold(store: InlineStore, what: object) -> None:
        if isinstance(what, Opened):
            held.append(partial(post, store, what))
        else:
            post(store, what)

    monkeypatch.setattr(InlineStore, "post", hold)
    async with stage({"small": says("ok")}, ready=False) as service:
        await trio.sleep(1)
        assert not service.service.readiness().ready
        refusal = (await service.ask("small")).refusal
        assert refusal is not None
        assert refusal.body.code == "loading"
        held[0]()
        await trio.sleep(1)
        assert (await service.ask("small")).text() == "ok"
