"""Classification of real servers' errors through all actors; one case per line of refusals.jsonl.

A line holds the server, its status (200: the error is in the stream or in its place), the body, and the expected
result: the kind, words that the client reads (`told`), the code that is passed on, and the requested pause. `KINDS`
holds what a kind implies.
"""

import gzip
import json
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from trio.testing import wait_all_tasks_blocked

from tests.actors.upstream.network import HEAD, Asked, Server
from tests.actors.upstream.test_upstream_actor import CHAT, FINE, config, failures, outcomes, stage


class Row(msgspec.Struct, frozen=True):
    server: str
    status: int
    kind: str
    body: dict | list | str
    told: str = ""
    code: str = ""
    pause_s: float | None = None
    headers: tuple[str, ...] = ()

    @property
    def data(self) -> bytes:
        data = self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()
        return gzip.compress(data) if "content-encoding: gzip" in self.headers else data

    def __str__(self) -> str:
        return f"{self.server} {self.status}"


class Kind(NamedTuple):
    """Effects of a kind on an upstream that is the only rung and has two retries."""

    status: int
    code: str
    type: str
    calls: int
    should_retry: bool
    heard: int
    """Failures that one call reports to the breaker."""
    next_rung: bool


KINDS = {
    "upstream_rejected": Kind(400, "upstream_rejected", "invalid_request_error", 1, False, 0, True),
    "prompt_too_long": Kind(400, "context_length_exceeded", "invalid_request_error", 1, False, 0, True),
    "content_filter": Kind(400, "content_filter", "invalid_request_error", 1, False, 0, False),
    "upstream_busy": Kind(429, "upstream_busy", "rate_limit_error", 1, True, 0, True),
    "upstream_error": Kind(503, "no_rung_available", "server_error", 3, True, 1, True),
    "upstream_failed": Kind(503, "no_rung_available", "server_error", 3, True, 1, True),
    "upstream_misconfigured": Kind(503, "no_rung_available", "server_error", 1, False, 1, True),
    "upstream_quota_spent": Kind(503, "no_rung_available", "server_error", 1, False, 1, True),
}
LINES = (Path(__file__).parent / "refusals.jsonl").read_bytes().splitlines()
ROWS = [msgspec.json.decode(line, type=Row) for line in LINES]
RETRIES = '[[ladders.cloud-only]]\nto = "cloud"\nretries = 2\n'
TEXT = config().replace(RETRIES.replace("retries = 2\n", ""), RETRIES) + "[retry_budget]\nat_least = 100\n"


def serving(row: Row, *, whole: bool = False) -> Server:
    async def serve(asked: Asked) -> None:
        if row.status != 200:
            await asked.status(row.status, *row.headers, body=row.data)
        elif whole:
            await asked.status(200, "content-type: application/json", body=row.data)
        else:
            await asked.send(HEAD)
            await asked.chunk(b"data: %b\n\n" % row.data)
            await asked.send(b"0\r\n\r\n")

    return serve


@pytest.mark.sample(150)
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_it_is_reported_as_what_it_is(autojump_clock, row, streamed):
    kind = KINDS[row.kind]
    async with stage(serving(row, whole=not streamed), text=TEXT) as (service, network):
        refusal = (await service.ask("cloud-only", prompts=CHAT, streamed=streamed)).refusal
        assert refusal is not None
        body = refusal.body
        assert (body.status, body.code, body.type) == kind[:3]
        # A requested pause prevents an immediate retry.
        calls = 1 if row.pause_s is not None else kind.calls
        assert len(network.asked) == calls
        assert body.should_retry is (kind.should_retry and (row.pause_s or 0) <= 60)
        assert body.retry_after_s == (pytest.approx(row.pause_s, abs=0.01) if row.pause_s is not None else None)
        assert (row.told in body.message) is True
        assert body.upstream_code == (row.code or None)
        assert failures(service) == {row.kind: calls}
        await wait_all_tasks_blocked()
        assert service.breaker("cloud").failed == calls * kind.heard
        record = service.service.admin.decision("r1")
        assert {attempt.why for attempt in record.attempts} == {row.kind}
        if row.told:
            assert row.told in record.attempts[0].said


@pytest.mark.sample(80)
@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_who_else_is_asked(autojump_clock, row):
    kind = KINDS[row.kind]
    async with stage(serving(row), FINE) as (service, _):
        answer = await service.ask("cloud", prompts=CHAT)
        assert (answer.refusal is None) is kind.next_rung
        if kind.next_rung:
            assert (answer.text(), outcomes(answer)[0][2]) == ("fine", row.kind)
        else:
            assert answer.refusal.body.code == kind.code
