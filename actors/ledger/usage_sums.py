"""What the ledger's file knows in sums: so that a start is as fast with ten million rows as with ten.

`used` has the tokens that count against quotas, in slices of five minutes; `spent` has money, by the hour; both by when
a request was admitted. A row goes into them when it is closed, in the same transaction, exactly once. `rolled_back` has
the experiments that are over.
"""

import datetime as dt
import sqlite3

from actors.protocol.admission import RestoreUsage
from policies.admission.budget import PERIODS, Period, period_begin, period_end
from policies.admission.quota import Used
from policies.rollout.experiment import RollBack

_SLICE_S, _HOUR_S, _DAY_S, _MINUTE_S = 300, 3600, 86_400, 60
_KEPT_S = {"used": 2 * _DAY_S, "spent": 63 * _DAY_S}
_PRUNE_EVERY_S = 3600.0
_OPENED = "CAST(strftime('%s', {row}opened_at) AS INTEGER)"
# As quotas are charged: who leaves pays for what was made meanwhile; never more than was reserved.
_CHARGED = (
    "min({row}reserved_tokens, {row}prompt_tokens + {row}completion_tokens"
    " + CASE {row}outcome WHEN 'gone' THEN {row}discarded_tokens ELSE 0 END)"
)
_TABLES = """
CREATE TABLE IF NOT EXISTS used (
    start INTEGER NOT NULL, tenant TEXT NOT NULL, tokens INTEGER NOT NULL, PRIMARY KEY (start, tenant)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spent (
    start INTEGER NOT NULL, tenant TEXT NOT NULL, cascade TEXT NOT NULL, cost REAL NOT NULL,
    PRIMARY KEY (start, tenant, cascade)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rolled_back (
    experiment TEXT NOT NULL, text TEXT NOT NULL, why TEXT NOT NULL,
    at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')), PRIMARY KEY (experiment, text)
) WITHOUT ROWID;
"""
_INTO_USED = "INSERT INTO used (start, tenant, tokens)"
_INTO_SPENT = "INSERT INTO spent (start, tenant, cascade, cost)"
_NEW = {"row": "new."}
_ON_CLOSE = f"""
CREATE TEMP TRIGGER IF NOT EXISTS sum_up AFTER UPDATE OF closed_at ON main.requests
WHEN old.closed_at IS NULL AND new.closed_at IS NOT NULL AND new.outcome <> 'refused' BEGIN
    {_INTO_USED} VALUES (
        {_OPENED.format(**_NEW)} / {_SLICE_S} * {_SLICE_S}, new.tenant, {_CHARGED.format(**_NEW)}
    ) ON CONFLICT (start, tenant) DO UPDATE SET tokens = tokens + excluded.tokens;
    {_INTO_SPENT} VALUES (
        {_OPENED.format(**_NEW)} / {_HOUR_S} * {_HOUR_S}, new.tenant, ifnull(new.cascade, ''), ifnull(new.cost, 0)
    ) ON CONFLICT (start, tenant, cascade) DO UPDATE SET cost = cost + excluded.cost;
END
"""  # noqa: S608  (constants of this file)
_LAST_MINUTE = f"""
SELECT {_OPENED.format(row="")} AS second, count(*), sum({_CHARGED.format(row="")}) FROM requests
WHERE tenant = ? AND opened_at >= strftime('%Y-%m-%dT%H:%M:%fZ', ?, 'unixepoch') AND closed_at IS NOT NULL
    AND outcome <> 'refused'
GROUP BY 1
"""  # noqa: S608  (constants of this file)


def fill_sums(at: float) -> str:
    """SQL that makes the tables and fills them from the rows of an older file, as far as these count at `at`."""
    month = _iso(period_begin("month", at))
    since = _iso(at - _KEPT_S["used"])
    # Times are compared and grouped as text: to convert each row's takes longer than all else.
    hour = "CAST(strftime('%s', hour || ':00:00') AS INTEGER)"
    return f"""
DROP TABLE IF EXISTS used; DROP TABLE IF EXISTS spent;
{_TABLES}
{_INTO_USED} SELECT {_OPENED.format(row="")} / {_SLICE_S} * {_SLICE_S}, tenant, sum({_CHARGED.format(row="")})
FROM requests WHERE opened_at >= '{since}' AND closed_at IS NOT NULL AND outcome <> 'refused' GROUP BY 1, 2;
{_INTO_SPENT} SELECT {hour}, tenant, cascade, cost FROM (
    SELECT substr(opened_at, 1, 13) AS hour, tenant, ifnull(cascade, '') AS cascade, total(cost) AS cost FROM requests
    WHERE opened_at >= '{month}' AND cost > 0 AND closed_at IS NOT NULL GROUP BY 1, 2, 3
);
"""  # noqa: S608  (constants of this file, and times)


def _iso(at: float) -> str:
    """As rows have it."""
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


class UsageSums:
    """Of an open file whose tables are there; in the same thread as the `Store`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Rows that are closed through this connection are summed up from now on."""
        self._connection = connection
        self._looked_at: float | None = None
        connection.execute(_ON_CLOSE)

    def roll_back(self, roll_back: RollBack) -> None:
        """Within the caller's transaction, as is `prune`."""
        self._connection.execute(
            "INSERT OR IGNORE INTO rolled_back (experiment, text, why) VALUES (?, ?, ?)",
            (roll_back.experiment, roll_back.text, roll_back.why),
        )

    def prune(self, at: float) -> None:
        """Forget sums that counted no more at the last look, an hour ago: a clock may be ahead for a while."""
        looked_at = self._looked_at
        if looked_at is not None and 0 <= at - looked_at < _PRUNE_EVERY_S:
            return
        self._looked_at = at
        if looked_at is not None and at > looked_at:
            for table, kept_s in _KEPT_S.items():
                self._connection.execute(f"DELETE FROM {table} WHERE start < ?", (looked_at - kept_s,))  # noqa: S608

    def spent(self, at: float, *, with_open: bool = False) -> RestoreUsage:
        """What counts at `at`. Of times to come, as a clock that was set back leaves them, a day is believed.

        `with_open`: rows that another process has still open count as reserved.
        """
        execute = self._connection.execute
        by_tenant: dict[str, dict[Period, float]] = {}
        by_cascade: dict[str, float] = {}
        for per in PERIODS:
            bounds = period_begin(per, at), period_end(per, at) + _DAY_S
            for tenant, cost in execute(_SUM_SPENT.format(key="tenant"), bounds):
                by_tenant.setdefault(tenant, {})[per] = cost
            if per == "day":
                by_cascade = dict(execute(_SUM_SPENT.format(key="cascade"), bounds).fetchall())
                by_cascade.pop("", None)
        used = self._used(at)
        if with_open:
            self._add_open(at, by_tenant, by_cascade, used)
        rolled_back = execute("SELECT experiment, text, why FROM rolled_back ORDER BY at")
        return RestoreUsage(by_tenant, by_cascade, used, tuple([RollBack(*row) for row in rolled_back]))

    def _add_open(
        self,
        at: float,
        by_tenant: dict[str, dict[Period, float]],
        by_cascade: dict[str, float],
        used: dict[str, tuple[Used, ...]],
    ) -> None:
        for tenant, cascade, opened, tokens, cost in self._connection.execute(_OPEN_ROWS):
            age_s = max(at - opened, 0.0)
            counts = [Used("day", age_s, tokens), *([Used("minute", age_s, tokens, 1)] if age_s < _MINUTE_S else [])]
            used[tenant] = (*used.get(tenant, ()), *counts)
            for per in PERIODS:
                if cost and opened >= period_begin(per, at):
                    spent = by_tenant.setdefault(tenant, {})
                    spent[per] = spent.get(per, 0.0) + cost
            if cascade and opened >= period_begin("day", at):
                by_cascade[cascade] = by_cascade.get(cascade, 0.0) + cost

    def _used(self, at: float) -> dict[str, tuple[Used, ...]]:
        usage: dict[str, list[Used]] = {}
        recent = set()
        for start, tenant, tokens in self._connection.execute(
            "SELECT start, tenant, tokens FROM used WHERE start > ? AND start < ? ORDER BY start",
            (at - _DAY_S - _SLICE_S, at + _DAY_S),
        ):
            # All of it as if it had come at the slice's end: what was used never counts for less than the day.
            usage.setdefault(tenant, []).append(Used("day", max(at - start - _SLICE_S, 0.0), tokens))
            if start > at - _MINUTE_S - 2 * _SLICE_S:
                recent.add(tenant)
        for tenant in recent:
            for second, requests, tokens in self._connection.execute(_LAST_MINUTE, (tenant, at - _MINUTE_S - 1)):
                usage[tenant].append(Used("minute", max(at - second - 1, 0.0), tokens, requests))
        return {tenant: tuple(used) for tenant, used in usage.items()}


_SUM_SPENT = "SELECT {key}, sum(cost) FROM spent WHERE start >= ? AND start < ? AND cost > 0 GROUP BY 1"
_OPEN_ROWS = f"""
SELECT tenant, ifnull(cascade, ''), {_OPENED.format(row="")}, reserved_tokens, reserved_cost FROM requests
WHERE closed_at IS NULL
"""  # noqa: S608  (constants of this file)
