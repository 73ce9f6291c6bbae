"""The loop runs in the test's own thread: commands are queued beforehand, or sent from within a step."""

from queue import Empty, SimpleQueue

import pytest

from engine.core.loop import StepLoop, Stop
from engine.errors import EngineError
from engine.messages import Abort, EngineFailed
from engine.testing.fake_runner import FakeRunner
from tests.engine.driving import Answers, make_engine, submit


class Harness:
    def __init__(self, *, on_step=None, **settings) -> None:
        self.inbox = SimpleQueue()
        self.posts = []
        self.runner = FakeRunner(on_step=on_step)
        self.engine = make_engine(self.runner, **settings)

    def run(self, *commands) -> Answers:
        for command in commands:
            self.inbox.put(command)
        StepLoop(self.engine, self.inbox, self.posts.append).run()
        assert self.runner.closed
        answers = Answers()
        for post in self.posts:
            if not isinstance(post, EngineFailed):
                answers.add(post)
        return answers


def test_one_report_a_step():
    def on_step(number, batch):
        if number == 3:
            harness.inbox.put(Stop())

    harness = Harness(on_step=on_step)
    answers = harness.run(submit(0, [1], max_tokens=4), submit(1, [2], max_tokens=4))
    assert [len(post.outputs) for post in harness.posts] == [2, 2, 2, 2, 0]
    assert {answer.finish.reason for answer in answers.values()} == {"length"}


def test_stop_ends_the_rest_as_aborted():
    harness = Harness(on_step=lambda number, _: harness.inbox.put(Stop()) if number == 1 else None)
    answers = harness.run(submit(0, [1], max_tokens=50))
    assert (answers[0].finish.reason, len(answers[0].tokens)) == ("abort", 2)
    stats = harness.posts[-1].stats
    assert stats.free_blocks == stats.total_blocks


def test_an_abort_takes_effect_in_the_next_step():
    def on_step(number, batch):
        rows.append(len(batch.samples))
        if number == 2:
            harness.inbox.put(Abort(0))
        if number == 4:
            harness.inbox.put(Stop())

    rows = []
    harness = Harness(on_step=on_step)
    answers = harness.run(submit(0, [1] * 40, max_tokens=50), submit(1, [2], max_tokens=50))
    assert rows == [2, 2, 2, 1, 1]
    assert answers[0].finish.completion_tokens == 3
    assert harness.posts[3].stats.free_blocks == harness.posts[2].stats.free_blocks + 3


def test_a_refusal_is_an_output():
    answers = Harness().run(submit(0, []), Abort(5), Stop())
    assert (answers[0].finish.reason, answers[0].finish.code) == ("error", "prompt_empty")


def test_a_failure_is_the_last_post():
    def on_step(number, batch):
        if number == 2:
            raise RuntimeError("device lost")

    harness = Harness(on_step=on_step)
    harness.run(submit(0, [1], max_tokens=50))
    assert len(harness.posts) == 3
    assert harness.posts[-1] == EngineFailed(
        "engine_failed", "engine engine failed in a step: RuntimeError: device lost"
    )


def test_broken_books_are_found_when_the_loop_idles():
    class Books(SimpleQueue):
        def get(self, block=True, timeout=None):
            if block:
                harness.engine._scheduler._outstanding += 1
                return super().get(block, 1e-9)
            return super().get(block, timeout)

    harness = Harness()
    harness.inbox = Books()
    harness.run(submit(0, [1], max_tokens=2))
    assert harness.posts[-1].code == "engine_integrity"


def test_a_wait_whose_time_is_up_at_once_ends():
    """`SimpleQueue.get` alone hangs here after some ten thousand rounds."""
    harness = Harness()
    loop = StepLoop(harness.engine, harness.inbox, harness.posts.append)
    for _ in range(30_000):
        harness.inbox.put(Stop())
        harness.inbox.get()
        with pytest.raises(Empty):
            loop._next(1e-9)


def test_an_unforeseen_error_is_posted_too(monkeypatch):
    harness = Harness()
    monkeypatch.setattr(harness.engine, "accept", lambda _: 1 / 0)
    harness.run(submit(0, [1]))
    assert "ZeroDivisionError" in harness.posts[-1].message


@pytest.mark.parametrize("error", [EngineError("cuda_lost", "restart it")])
def test_the_runners_own_code_is_kept(error):
    def on_step(number, batch):
        raise error

    harness = Harness(on_step=on_step)
    harness.run(submit(0, [1]))
    assert harness.posts[-1].code == "cuda_lost"
