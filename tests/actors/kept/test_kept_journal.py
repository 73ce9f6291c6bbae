"""Groups, faults and the end of the journal, with a file that does what the test says."""

from typing import Any

import pytest
import trio

from actors.api.errors import Unavailable
from actors.kept.kept_journal import KeptJournal
from actors.kept.kept_store import (
    DeleteAnswer,
    KeptBatch,
    KeptCommitted,
    KeptOpened,
    KeptStoreClosed,
    KeptStoreFailed,
)


class File:
    """Answers each command after `takes_s`; None: never."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.takes_s: float | None = 0.0
        self.errors: list[str] = []
        self.fresh: list[bool] = []
        self.batches: list[list[str]] = []
        self.closed = 0
        self._on_posts: Any = None

    def kept_store(self, on_posts: Any, *, fresh: bool) -> "File":
        self._on_posts = on_posts
        self.fresh.append(fresh)
        self.nursery.start_soon(self._answer, KeptOpened((), 0))
        return self

    def send(self, command: Any) -> None:
        if isinstance(command, KeptStoreClosed):
            self.closed += 1
            return
        assert isinstance(command, KeptBatch)
        self.batches.append([write.answer_id for write in command.writes])
        self.nursery.start_soon(self._answer, KeptCommitted())

    async def _answer(self, post: Any) -> None:
        on_posts = self._on_posts
        if self.takes_s is None:
            return
        await trio.sleep(self.takes_s)
        on_posts([KeptStoreFailed(self.errors.pop())] if self.errors else [post])

    def abandon(self) -> None:
        """Later posts go nowhere."""

    async def join(self, timeout_s: float) -> bool:
        await trio.lowlevel.checkpoint()
        return True


class Scene:
    def __init__(self, nursery: trio.Nursery, *, may_open: bool = True) -> None:
        self.file = File(nursery)
        self.may_open = may_open
        self.opened = self.lost = 0
        self.journal = KeptJournal(
            self.file, may_open=lambda: self.may_open, on_opened=self._on_opened, on_lost=self._on_lost
        )
        self.scope = trio.CancelScope()
        nursery.start_soon(self._run)

    async def _run(self) -> None:
        with self.scope:
            await self.journal.run()

    def _on_opened(self, _: KeptOpened) -> None:
        self.opened += 1

    def _on_lost(self) -> None:
        self.lost += 1


@pytest.fixture
async def scene(autojump_clock, nursery):
    return Scene(nursery)


def write(name: str) -> DeleteAnswer:
    return DeleteAnswer(name)


async def test_what_comes_within_some_milliseconds_is_committed_together(autojump_clock, scene, nursery):
    await scene.journal.ready()
    for name in "abc":
        nursery.start_soon(scene.journal.commit, write(name))
    scene.journal.write(write("d"))
    assert await scene.journal.commit(write("e"))
    assert [sorted(batch) for batch in scene.file.batches] == [["a", "b", "c", "d", "e"]]


async def test_the_next_group_gathers_while_one_is_committed(autojump_clock, scene, nursery):
    await scene.journal.ready()
    scene.file.takes_s = 1.0
    nursery.start_soon(scene.journal.commit, write("a"))
    await trio.sleep(0.5)
    nursery.start_soon(scene.journal.commit, write("b"))
    assert await scene.journal.commit(write("c"))
    assert [sorted(batch) for batch in scene.file.batches] == [["a"], ["b", "c"]]


async def test_it_opens_after_the_ledger(autojump_clock, nursery):
    scene = Scene(nursery, may_open=False)
    await trio.sleep(5)
    assert (scene.file.fresh, scene.journal.is_on) == ([], False)
    with pytest.raises(Unavailable):
        await scene.journal.ready()
    scene.may_open = True
    await scene.journal.ready()
    assert scene.journal.is_on


@pytest.mark.parametrize("fault", ["fails", "hangs"])
async def test_those_who_wait_go_on_when_it_fails(autojump_clock, scene, nursery, fault):
    await scene.journal.ready()
    if fault == "fails":
        scene.file.takes_s, scene.file.errors = 1.0, ["disk full"]
    else:
        scene.file.takes_s = None
    results = []

    async def commit(name: str) -> None:
        results.append(await scene.journal.commit(write(name)))

    nursery.start_soon(commit, "a")
    await trio.sleep(0.5)
    nursery.start_soon(commit, "b")
    await trio.sleep(3)
    assert (results, scene.lost, scene.journal.is_on, scene.journal.failures_total) == ([False, False], 1, False, 1)
    assert not await scene.journal.commit(write("c"))
    scene.journal.write(write("d"))
    scene.file.takes_s = 0.0
    await trio.sleep(12)
    # A file without what was in it, as answers have gone on since.
    assert (scene.file.fresh, scene.opened, scene.journal.is_on) == ([False, True], 1, True)
    assert await scene.journal.commit(write("e"))
    assert [name for batch in scene.file.batches for name in batch] == ["a", "e"]


async def test_a_file_that_cannot_be_opened_is_tried_again(autojump_clock, scene):
    scene.file.errors = ["locked"] * 3
    await scene.journal.ready()
    assert not scene.journal.is_on
    await trio.sleep(35)
    # What is in it was never read, so it is read now.
    assert (scene.file.fresh, scene.opened, scene.journal.is_on) == ([False] * 4, 1, True)
    assert (scene.journal.failures_total, scene.lost) == (3, 0)


async def test_at_a_stop_the_rest_is_written_and_the_file_is_closed(autojump_clock, scene):
    await scene.journal.ready()
    scene.journal.write(write("a"))
    scene.scope.cancel()
    await trio.sleep(1)
    assert (scene.file.batches, scene.file.closed, scene.journal.is_on) == ([["a"]], 1, False)
