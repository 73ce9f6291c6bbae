"""Batches in a running service: from the file to the results, whatever comes in between."""

from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio

from actors.api.errors import Conflict, NotFound, OverQuota, Unavailable
from actors.batches.batch_store import BatchStore
from actors.batches.file_rows import FileLimits
from actors.batches.records import ENDED, BatchRecord
from actors.batches.store_queries import AddPiece, BeginFile, EndFile, FinishBatch, GetBatch, PutResults, ReadFile
from engine.errors import EngineError
from gateway.endpoints.api_context import ApiContext
from gateway.endpoints.batches.batch_formats import GatewayFormats
from tests.actors.fakes import CONFIG, Stage, says, stage

CHAT = "/v1/chat/completions"
PRICED = f"{CONFIG}[prices]\nsmall = {{ input = 1_000_000, output = 1_000_000 }}\n"


def line(custom_id: str = "a", model: str = "small", *, url: str = CHAT, method: str = "POST", **body: Any) -> bytes:
    asked = {"model": model, "max_tokens": 8, "messages": [{"role": "user", "content": "Hi"}], **body}
    return msgspec.json.encode({"custom_id": custom_id, "method": method, "url": url, "body": asked})


class Batch:
    """A service whose batches are asked for as the endpoints do."""

    def __init__(self, service: Stage) -> None:
        self.stage = service
        self.batches = service.service.batches
        self.batches.serve(GatewayFormats(ApiContext(service=service.service, max_choices=4, max_inputs=4)))
        self._numbers = 0

    async def begin(self, lines: Sequence[bytes], tenant: str = "anonymous", **more: Any) -> str:
        self._numbers += 1
        file_id, batch_id = f"file-{self._numbers}", f"batch_{self._numbers}"
        await self._ask(BeginFile(tenant, file_id, "f"))
        await self._ask(AddPiece(tenant, file_id, b"\n".join(lines)))
        await self._ask(EndFile(tenant, file_id, None))
        at = self.stage.service.wall()
        values = {"key": "", "endpoint": CHAT, "created": at, "expires": at + 86_400.0, **more}
        await self.batches.create(BatchRecord(id=batch_id, tenant=tenant, input_file=file_id, **values))
        return batch_id

    async def _ask(self, query: Any) -> Any:
        while True:
            try:
                return await self.batches.store.ask(query)
            except Unavailable:
                # The actor has not begun yet.
                await trio.sleep(0.1)

    async def now(self, batch_id: str, tenant: str = "anonymous") -> BatchRecord:
        return await self.batches.store.ask(GetBatch(tenant, batch_id))

    async def ended(self, batch_id: str, tenant: str = "anonymous") -> BatchRecord:
        while (record := await self.now(batch_id, tenant)).state not in ENDED:  # noqa: ASYNC110
            await trio.sleep(0.5)
        return record

    async def results(self, record: BatchRecord) -> dict[str, Any]:
        """By custom_id, those of both files."""
        found: dict[str, Any] = {}
        for file_id in filter(None, (record.output_file, record.error_file)):
            data, _ = await self.batches.store.ask(ReadFile(record.tenant, file_id))
            for each in data.splitlines():
                result = msgspec.json.decode(each)
                assert result["custom_id"] not in found, "a result is there once"
                found[result["custom_id"]] = result
        return found


@asynccontextmanager
async def batching(scripts: Any = None, settings: str = CONFIG, **more: Any):
    async with stage(scripts or {"small": says("ok", prompt=2)}, settings=settings, **more) as service:
        yield Batch(service)


def text_of(result: Any) -> str:
    return result["response"]["body"]["choices"][0]["message"]["content"]


async def test_from_a_file_to_its_results(autojump_clock) -> None:
    async with batching() as batch:
        lines = [line(f"c{number}") for number in range(20)]
        record = await batch.ended(await batch.begin([*lines, line("bad", messages=[])]))
        assert (record.state, record.total, record.completed, record.failed) == ("completed", 21, 20, 1)
        assert record.in_progress_at is not None
        assert record.finalizing_at is not None
        results = await batch.results(record)
        assert {text_of(results[f"c{number}"]) for number in range(20)} == {"ok"}
        bad = results["bad"]["response"]
        assert (bad["status_code"], bad["body"]["error"]["param"]) == (400, "messages")
        assert batch.batches.statistics().in_flight == 0


async def test_a_batch_costs_half_and_the_ledger_names_it(autojump_clock) -> None:
    async with batching(settings=PRICED) as batch:
        batch_id = await batch.begin([line()])
        await batch.ended(batch_id)
        asked = await batch.stage.ask("small", max_tokens=8)
        await batch.stage.assert_clean()
        rows = list(batch.stage.rows().values())
        of_batch = next(row for row in rows if row["batch"] == batch_id)
        alone = next(row for row in rows if not row["batch"])
        assert asked.refusal is None
        assert of_batch["cost"] == 0.5 * (of_batch["prompt_tokens"] + of_batch["completion_tokens"])
        assert alone["cost"] == alone["prompt_tokens"] + alone["completion_tokens"]


FAULTS: list[tuple[str, list[bytes], list[tuple[str, int | None]]]] = [
    ("nothing", [b"", b" "], [("empty_file", None)]),
    ("no JSON", [line(), b"{"], [("invalid_json_line", 2)]),
    ("no object", [b"[]"], [("invalid_request", 1)]),
    ("a field is missing", [b'{"custom_id": "a", "method": "POST", "url": "/"}'], [("missing_required_parameter", 1)]),
    ("another method", [line(method="GET")], [("invalid_method", 1)]),
    ("another address", [line(), b"", line("b", url="/v1/embeddings")], [("invalid_url", 3)]),
    ("twice", [line(), line("b"), line()], [("duplicate_custom_id", 3)]),
    ("a model that is not there", [line(model="nope")], [("model_not_found", 1)]),
    ("a stream", [line(stream=True)], [("unsupported_parameter", 1)]),
    ("no id", [line("")], [("invalid_request", 1)]),
    (
        "two faults in order",
        [line(model="x"), line(), b"?", line()],
        [("model_not_found", 1), ("invalid_json_line", 3), ("duplicate_custom_id", 4)],
    ),
    ("too many lines", [line(str(number)) for number in range(31)], [("too_many_lines", None)]),
    ("a long line", [line("x" * 2000)], [("line_too_long", 1)]),
]


@pytest.mark.parametrize(("lines", "faults"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
async def test_what_is_wrong_with_a_file(
    autojump_clock, lines: list[bytes], faults: list[tuple[str, int | None]]
) -> None:
    async with batching(settings=f'{CONFIG}[batch]\nmax_lines = 30\nmax_line = "1KiB"\n') as batch:
        record = await batch.ended(await batch.begin(lines))
        assert record.state == "failed"
        assert record.failed_at is not None
        assert [(fault.code, fault.line) for fault in record.faults] == faults
        assert all(fault.message for fault in record.faults)
        assert (record.output_file, record.error_file, record.completed, record.failed) == ("", "", 0, 0)


async def test_a_key_s_models_bind_its_batches(autojump_clock) -> None:
    async with batching() as batch:
        record = await batch.ended(await batch.begin([line(), line("b", "large")], models=("sm*",)))
        assert [(fault.code, fault.line) for fault in record.faults] == [("model_not_found", 2)]
        assert "may not ask for the model 'large'" in record.faults[0].message


async def test_a_cancelled_batch_lists_what_was_not_answered(autojump_clock) -> None:
    async with batching({"small": says("ok", prompt=2)}, step_s=5.0) as batch:
        batch_id = await batch.begin([line(f"c{number}") for number in range(60)])
        while not (await batch.now(batch_id)).completed:  # noqa: ASYNC110
            await trio.sleep(1)
        assert (await batch.batches.cancel("anonymous", batch_id)).state == "cancelling"
        assert (await batch.batches.cancel("anonymous", batch_id)).state in {"cancelling", "cancelled"}
        record = await batch.ended(batch_id)
        assert record.state == "cancelled"
        assert record.cancelled_at is not None
        results = await batch.results(record)
        assert len(results) == 60 == record.completed + record.failed
        codes = {result["error"]["code"] for result in results.values() if result["error"]}
        assert codes == {"batch_cancelled"}
        assert {result["response"]["status_code"] for result in results.values() if result["response"]} == {200}
        with pytest.raises(NotFound):
            await batch.batches.cancel("another", batch_id)


async def test_an_ended_batch_cannot_be_cancelled(autojump_clock) -> None:
    async with batching() as batch:
        batch_id = await batch.begin([line()])
        await batch.ended(batch_id)
        with pytest.raises(Conflict):
            await batch.batches.cancel("anonymous", batch_id)


async def test_after_its_window_a_batch_expires(autojump_clock) -> None:
    async with batching({"small": says("ok", prompt=2)}, step_s=5.0, wall=trio.current_time) as batch:
        at = trio.current_time() + 100
        lines = [line(f"c{number}") for number in range(90)]
        record = await batch.ended(await batch.begin(lines, expires=at))
        assert record.state == "expired"
        assert record.expired_at is not None
        assert record.expired_at >= record.expires
        results = await batch.results(record)
        assert record.completed > 0
        assert len(results) == record.completed + record.failed == 90
        codes = {result["error"]["code"] for result in results.values() if result["error"]}
        assert codes == {"batch_expired"}
        assert {result["response"]["status_code"] for result in results.values() if result["response"]} == {200}


async def test_what_has_no_result_is_begun_again_by_the_next_process(autojump_clock, tmp_path) -> None:
    path = tmp_path / "batches.sqlite3"

    def opened() -> BatchStore:
        return BatchStore(path, FileLimits(1 << 24, 1 << 22, 1e6), trio.current_time)

    async with batching(step_s=5.0, clean=False, batch_file=opened()) as batch:
        batch_id = await batch.begin([line(f"c{number}") for number in range(40)])
        while not (before := (await batch.now(batch_id)).completed):  # noqa: ASYNC110
            await trio.sleep(1)
    async with batching(batch_file=opened()) as batch:
        record = await batch.ended(batch_id)
        assert (record.state, record.completed) == ("completed", 40)
        assert 0 < before < 40
        assert len(await batch.results(record)) == 40
        # Those that had a result were not answered again.
        assert len([row for row in batch.stage.rows().values() if row["batch"]]) <= 40 - before


@pytest.mark.parametrize("last", [PutResults, FinishBatch])
async def test_an_expired_batch_stays_one_if_the_process_dies_at_its_end(autojump_clock, tmp_path, last: type) -> None:
    dies = trio.Event()

    class Dying(BatchStore):
        def carry_out(self, query: Any) -> Any:
            if isinstance(query, last) and trio.current_time() > 100:
                dies.set()
                raise Conflict("batch_ended", "The process has ended.")
            return super().carry_out(query)

    def opened(kind: type[BatchStore]) -> BatchStore:
        return kind(tmp_path / "batches.sqlite3", FileLimits(1 << 24, 1 << 22, 1e6), trio.current_time)

    kept: dict[str, Any] = {"clean": False, "wall": trio.current_time}
    async with batching(step_s=5.0, batch_file=opened(Dying), **kept) as batch:
        batch_id = await batch.begin([line(f"c{number}") for number in range(60)], expires=100.0)
        await dies.wait()
    async with batching(batch_file=opened(BatchStore), **kept) as batch:
        record = await batch.ended(batch_id)
        assert record.state == "expired"
        assert len(await batch.results(record)) == record.completed + record.failed == record.total == 60


async def test_a_batch_that_was_cancelled_before_its_file_was_read_lists_its_requests(autojump_clock) -> None:
    async with batching() as batch:
        record = await batch.ended(await batch.begin([line("a"), line("b")], state="cancelling"))
        assert (record.state, record.total, record.failed) == ("cancelled", 2, 2)
        assert set(await batch.results(record)) == {"a", "b"}


async def test_a_stop_cuts_what_runs_and_costs_nothing(autojump_clock) -> None:
    async with batching(settings=PRICED, step_s=5.0, clean=False) as batch:
        batch_id = await batch.begin([line(f"c{number}") for number in range(50)])
        while not batch.batches.statistics().in_flight:  # noqa: ASYNC110
            await trio.sleep(1)
        await batch.stage.service.drain(trio.current_time())
        assert (await batch.now(batch_id)).state == "in_progress"
        refused = [row for row in batch.stage.rows().values() if row["outcome"] == "refused"]
        assert refused
        assert sum(row["cost"] for row in refused) == 0.0


async def test_interactive_requests_are_before_all_of_a_batch(autojump_clock) -> None:
    async with batching({"small": says("ok " * 20, prompt=2)}) as batch:
        alone_s = await took(batch)
        batch_id = await batch.begin([line(f"c{number}", max_tokens=40) for number in range(60)])
        while batch.batches.statistics().in_flight < 8:  # noqa: ASYNC110
            await trio.sleep(0.1)
        # One step of the batch may be under way; there is none in between.
        assert await took(batch) <= alone_s + 0.2
        await batch.batches.cancel("anonymous", batch_id)
        await batch.ended(batch_id)


async def took(batch: Batch) -> float:
    """An interactive request."""
    began = trio.current_time()
    assert (await batch.stage.ask("small", max_tokens=8)).refusal is None
    return trio.current_time() - began


async def test_a_tenant_that_has_reached_a_limit_goes_on_later(autojump_clock) -> None:
    limited = f"{CONFIG}[tenants.anonymous]\nrequests_per_minute = 10\n"
    async with batching(settings=limited) as batch:
        began = trio.current_time()
        record = await batch.ended(await batch.begin([line(f"c{number}") for number in range(12)]))
        assert (record.state, record.completed) == ("completed", 12)
        assert trio.current_time() - began > 60
        assert (await batch.stage.ask("small")).refusal is None, "half of the limit is left for others"


async def test_a_line_that_waits_for_a_model_is_not_lost(autojump_clock) -> None:
    """An engine that crashes under a batch is restarted; its requests are answered by the next life."""
    async with batching(step_s=1.0) as batch:
        batch_id = await batch.begin([line(f"c{number}") for number in range(40)])
        while batch.batches.statistics().in_flight < 8:  # noqa: ASYNC110
            await trio.sleep(0.1)
        batch.stage.on_step["small"] = breaks_once(batch.stage)
        record = await batch.ended(batch_id)
        assert (record.state, record.completed + record.failed) == ("completed", 40)
        assert len(await batch.results(record)) == 40


def breaks_once(service: Stage) -> Any:
    def on_step(number: int, batch: Any) -> None:
        del service.on_step["small"]
        raise EngineError("engine_failed", "it broke")

    return on_step


async def test_a_tenant_may_have_so_many_unfinished(autojump_clock) -> None:
    async with batching(settings=f"{CONFIG}[batch]\nunfinished = 1\n", step_s=5.0) as batch:
        batch_id = await batch.begin([line()])
        with pytest.raises(OverQuota):
            await batch.begin([line()])
        await batch.ended(batch_id)
        await batch.begin([line()])
