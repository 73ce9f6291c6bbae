"""Sums of the ledger's rows by what is asked, read while the server writes."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import msgspec

from actors.api.errors import LedgerFileError
from actors.ledger.store import SCHEMA

_GROUPS = {
    "tenant": "tenant",
    "model": "model",
    "route": "route",
    "rung": "ifnull(rung, '')",
    "outcome": "ifnull(outcome, 'running')",
    "cascade": "ifnull(cascade, '')",
    "key": "ifnull(key, '')",
    "user": "ifnull(user, '')",
    "arm": "ifnull(arm, '')",
    "batch": "ifnull(batch, '')",
    "tag": "tag.value",
    "hour": "substr(opened_at, 1, 13)",
    "day": "substr(opened_at, 1, 10)",
    "month": "substr(opened_at, 1, 7)",
}
GROUPS = tuple(_GROUPS)
"""By what usage can be summed; times are UTC, by when a request began. A request with several tags counts for each."""
_TAGS = ", json_each(iif(ifnull(tags, '[]') = '[]', '[\"\"]', tags)) AS tag"
_PATIENCE_S = 5.0


class UsageRow(msgspec.Struct, frozen=True):
    """The requests of one group."""

    group: tuple[str, ...]
    requests: int
    running: int
    """Those of them that have not ended; only these count in neither tokens nor cost."""
    prompt_tokens: int
    completion_tokens: int
    discarded_tokens: int
    """Generated, and received by no client."""
    cost: float


def read_usage(path: Path, by: Sequence[str], *, since: str = "", until: str = "") -> list[UsageRow]:
    """One row for each group, in order; refused requests are left out.

    `by`: one or more names of `GROUPS`. `since`, `until`: times in UTC as ISO 8601, or a beginning of one; `until` is
    not included. Raises LedgerFileError.
    """
    groups = ", ".join([_GROUPS[name] for name in by])
    query = f"""
SELECT {groups}, count(*), sum(closed_at IS NULL),
    sum(CASE WHEN completion_tokens IS NULL THEN 0 ELSE prompt_tokens END),
    sum(ifnull(completion_tokens, 0)), sum(ifnull(discarded_tokens, 0)), total(cost)
FROM requests{_TAGS if "tag" in by else ""}
WHERE opened_at >= ? AND (? = '' OR opened_at < ?) AND ifnull(outcome, '') <> 'refused'
GROUP BY {groups} ORDER BY {groups}
"""  # noqa: S608  (constants of this file)
    if not path.is_file():
        raise LedgerFileError(f"there is no file {path}: name that of [ledger] path")
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_PATIENCE_S)
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA:
                raise LedgerFileError(
                    f"{path} is a ledger of version {version}, and this program reads version {SCHEMA}"
                    if version
                    else f"{path} is no ledger"
                )
            rows = connection.execute(query, (since, until, until)).fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise LedgerFileError(f"{path} cannot be read: {error}") from None
    return [UsageRow(row[: len(by)], *row[len(by) :]) for row in rows]
