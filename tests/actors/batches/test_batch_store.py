"""What the store gives of files and batches, to whom, for how long, and how much of it."""

import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.batches.batch_store import BatchStore
from actors.batches.file_rows import PIECE_BYTES, FileLimits
from actors.batches.records import BatchRecord, CheckedLine, LineResult
from actors.batches.store_queries import (
    AddLines,
    AddPiece,
    BeginFile,
    ClearLines,
    DropFile,
    EndFile,
    FileSums,
    FinishBatch,
    GetBatch,
    GetFile,
    ListBatches,
    ListFiles,
    NewBatch,
    NextLines,
    PutBatch,
    PutResults,
    ReadFile,
    SweepFiles,
    UnfinishedBatches,
)


class World:
    def __init__(self, path: Path | None = None, *, storage: int = 1 << 24, of_tenant: int = 1 << 23) -> None:
        self.now = 1000.0
        self.store = BatchStore(path, FileLimits(storage, of_tenant, 100.0), lambda: self.now)

    def ask(self, query: Any) -> Any:
        return self.store.carry_out(query)

    def upload(self, file_id: str, data: bytes, tenant: str = "t", keep_s: float | None = None) -> Any:
        self.ask(BeginFile(tenant, file_id, f"{file_id}.jsonl"))
        for at in range(0, len(data), PIECE_BYTES):
            assert self.ask(AddPiece(tenant, file_id, data[at : at + PIECE_BYTES])) is None
        return self.ask(EndFile(tenant, file_id, keep_s))

    def read(self, file_id: str, tenant: str = "t") -> bytes | None:
        data, position = b"", 0
        while (part := self.ask(ReadFile(tenant, file_id, position))) is not None:
            if not part[0]:
                return data
            data, position = data + part[0], part[1]
        return None

    def batch(self, batch_id: str = "b", input_file: str = "f", tenant: str = "t", lines: int = 3) -> BatchRecord:
        record = BatchRecord(
            id=batch_id, tenant=tenant, key="k", endpoint="/v1/x", input_file=input_file, created=self.now, expires=9e9
        )
        assert self.ask(NewBatch(record, 10)) is None
        added = tuple([CheckedLine(number, f"c{number}", number - 1, 1) for number in range(1, lines + 1)])
        assert self.ask(AddLines(batch_id, added)) == []
        return record


def result(number: int, *, ok: bool = True, line: bytes = b"") -> LineResult:
    return LineResult(number, ok, line or b"%d\n" % number)


def test_a_file_is_what_was_uploaded() -> None:
    world = World()
    data = bytes(range(256)) * 5000
    record = world.upload("f", data)
    assert (record.size, record.name, record.purpose, record.created, record.expires) == (
        len(data),
        "f.jsonl",
        "batch",
        1000.0,
        1100.0,
    )
    assert world.read("f") == data
    assert world.ask(GetFile("t", "f")) == record


def test_a_file_that_is_not_whole_is_no_file() -> None:
    world = World()
    world.ask(BeginFile("t", "f", "n"))
    world.ask(AddPiece("t", "f", b"x"))
    assert world.ask(GetFile("t", "f")) is None
    assert world.read("f") is None
    assert world.ask(ListFiles("t", "", 9, newest_first=True)) == []
    world.now += 100_000
    assert world.ask(SweepFiles()) == 1
    assert world.ask(FileSums()) == (0, 0)


def test_nothing_of_another_tenant_is_found() -> None:
    world = World()
    world.upload("f", b"abc")
    world.batch()
    for query, found in (
        (GetFile("u", "f"), None),
        (ReadFile("u", "f"), None),
        (DropFile("u", "f"), "unknown"),
        (ListFiles("u", "", 9, newest_first=True), []),
        (ListFiles("u", "f", 9, newest_first=True), None),
        (GetBatch("u", "b"), None),
        (ListBatches("u", "", 9), []),
        (ListBatches("u", "b", 9), None),
        (EndFile("u", "f", None), None),
    ):
        assert world.ask(query) == found
    other = BatchRecord(id="c", tenant="u", key="", endpoint="/v1/x", input_file="f", created=0.0, expires=9.0)
    assert world.ask(NewBatch(other, 10)) == "no_file"
    assert world.read("f") == b"abc"


def test_lists_go_on_after_an_id() -> None:
    world = World()
    for name in "abcd":
        world.upload(name, b"x")
    assert [each.id for each in world.ask(ListFiles("t", "", 2, newest_first=True))] == ["d", "c", "b"]
    assert [each.id for each in world.ask(ListFiles("t", "c", 5, newest_first=True))] == ["b", "a"]
    assert [each.id for each in world.ask(ListFiles("t", "b", 5, newest_first=False))] == ["c", "d"]
    assert world.ask(ListFiles("t", "", 5, newest_first=True, purpose="batch_output")) == []
    for name in ("1", "2"):
        world.batch(name, "a", lines=0)
    assert [each.id for each in world.ask(ListBatches("t", "2", 5))] == ["1"]


@pytest.mark.parametrize(("storage", "of_tenant", "full"), [(3000, 1 << 20, "all"), (1 << 20, 3000, "tenant")])
def test_storage_is_bounded(storage: int, of_tenant: int, full: str) -> None:
    world = World(storage=storage, of_tenant=of_tenant)
    world.upload("f", b"x" * 1000)
    world.ask(BeginFile("t", "g", "n"))
    assert world.ask(AddPiece("t", "g", b"x" * 2000)) == full
    assert world.ask(DropFile("t", "f")) == "deleted"
    assert world.ask(AddPiece("t", "g", b"x" * 2000)) is None


def test_a_result_is_written_once() -> None:
    world = World()
    world.upload("f", b"xyz")
    world.batch()
    assert world.ask(PutResults("b", (result(1), result(2, ok=False)))) == (1, 1)
    assert world.ask(PutResults("b", (result(1, ok=False), result(2, line=b"again\n")))) == (1, 1)
    assert [(line.number, line.custom_id, line.raw) for line in world.ask(NextLines("b", 0, 9))] == [(3, "c3", b"z")]
    done = world.ask(FinishBatch(world.ask(GetBatch("t", "b")), "out", "err"))
    assert (done.output_file, done.error_file, done.completed, done.failed) == ("out", "err", 1, 1)
    assert (world.read("out"), world.read("err")) == (b"1\n", b"2\n")
    assert world.ask(GetFile("t", "out")).purpose == "batch_output"


def test_results_are_read_in_parts_and_in_order() -> None:
    world = World()
    world.upload("f", b"x" * 50)
    world.batch(lines=50)
    whole = b""
    for number in range(50, 0, -1):
        line = b"%02d" % number * 20_000 + b"\n"
        whole = line + whole
        world.ask(PutResults("b", (result(number, line=line),)))
    done = world.ask(FinishBatch(world.ask(GetBatch("t", "b")), "out", "err"))
    assert done.error_file == ""
    assert world.ask(GetFile("t", "out")).size == len(whole)
    assert len(world.ask(ReadFile("t", "out"))[0]) < 2 * PIECE_BYTES
    assert world.read("out") == whole


def test_a_result_that_does_not_fit_is_replaced() -> None:
    world = World(of_tenant=6000)
    world.upload("f", b"xyz")
    world.batch()
    instead = result(1, ok=False, line=b"full\n")
    assert world.ask(PutResults("b", (result(1, line=b"x" * 9000),), (instead,))) == (0, 1)
    done = world.ask(FinishBatch(world.ask(GetBatch("t", "b")), "out", "err"))
    assert world.read(done.error_file) == b"full\n"


def test_custom_ids_are_told_that_were_there_before() -> None:
    world = World()
    world.upload("f", b"xyz")
    world.batch()
    again = (CheckedLine(4, "c2", 0, 1), CheckedLine(5, "new", 0, 1), CheckedLine(6, "new", 0, 1))
    assert world.ask(AddLines("b", again)) == [4, 6]
    world.ask(ClearLines("b"))
    assert world.ask(NextLines("b", 0, 9)) == []
    assert world.ask(AddLines("b", again)) == [6]


def test_the_file_of_an_unfinished_batch_stays() -> None:
    world = World()
    world.upload("f", b"xyz")
    record = world.batch()
    assert world.ask(DropFile("t", "f")) == "in_use"
    world.now += 1000
    assert world.ask(SweepFiles()) == 0
    world.ask(PutBatch(msgspec.structs.replace(record, state="failed")))
    assert world.ask(SweepFiles()) == 1
    assert world.ask(GetFile("t", "f")) is None


def test_an_ended_batch_does_not_change_and_is_deleted_in_its_time() -> None:
    world = World()
    world.upload("f", b"xyz")
    record = world.batch()
    assert [each.id for each in world.ask(UnfinishedBatches())] == ["b"]
    world.ask(PutResults("b", (result(1),)))
    world.ask(FinishBatch(msgspec.structs.replace(record, state="completed"), "out", "err"))
    world.ask(PutBatch(msgspec.structs.replace(record, state="cancelling")))
    assert world.ask(GetBatch("t", "b")).state == "completed"
    assert world.ask(UnfinishedBatches()) == []
    world.now += 101
    while world.ask(SweepFiles()):
        pass
    assert world.ask(GetBatch("t", "b")) is None
    assert world.ask(FileSums()) == (0, 0)


def test_deleted_results_take_no_room() -> None:
    world = World()
    world.upload("f", b"xyz")
    record = world.batch()
    before = world.ask(FileSums())[1]
    world.ask(PutResults("b", (result(1, line=b"x" * 5000),)))
    world.ask(FinishBatch(record, "out", "err"))
    assert world.ask(FileSums())[1] > before + 5000
    assert world.ask(DropFile("t", "out")) == "deleted"
    assert world.ask(FileSums())[1] == before
    assert world.read("out") is None


def test_a_tenant_has_so_many_unfinished_batches() -> None:
    world = World()
    world.upload("f", b"xyz")
    world.batch("1")
    record = BatchRecord(id="2", tenant="t", key="", endpoint="/v1/x", input_file="f", created=0.0, expires=9.0)
    assert world.ask(NewBatch(record, 1)) == "too_many"
    assert world.ask(NewBatch(record, 2)) is None


def test_all_of_it_is_there_after_the_end_and_private(tmp_path: Path) -> None:
    path = tmp_path / "batches.sqlite3"
    first = World(path)
    first.upload("f", b"xyz")
    first.batch()
    first.ask(PutResults("b", (result(2),)))
    second = World(path)
    assert second.read("f") == b"xyz"
    (record,) = second.ask(UnfinishedBatches())
    assert (record.id, record.completed) == ("b", 1)
    assert [line.number for line in second.ask(NextLines("b", 0, 9))] == [1, 3]
    assert path.stat().st_mode & 0o077 == 0
    for world in (first, second):
        world.store.close()


def test_another_program_s_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(sqlite3.DatabaseError, match=r"\[batch\] file"):
        World(path)
