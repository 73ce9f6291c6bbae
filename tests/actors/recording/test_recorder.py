"""A recording of the traffic: what a simulation needs of it, and no text."""

import resource
from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs

from actors.api.request import TokenPrompt
from actors.kernel.actor import Mailbox
from actors.recording.recorder import RecordedRequest, Recording, append
from policies.model.features import Features
from policies.records.trace import read_trace
from tests.actors.fakes import PROMPT, says, stage

TEXT = "the quick brown fox jumps over the lazy dog"
FEATURES = Features(
    model="m", tenant="acme", tier="gold", prompt_tokens=40, max_tokens=9, user="Ann", tags=frozenset("b")
)


async def test_an_answer_leaves_a_line(autojump_clock, tmp_path: Path):
    path = tmp_path / "recording.jsonl"
    scripts = {"small": says(TEXT, {3: 2.5}), "large": says(TEXT)}
    async with stage(scripts, record=path) as service:
        await trio.sleep(5)
        first = await service.ask("both")
        await trio.sleep(2)
        prompt = tuple(range(1, 41))
        await service.ask("both", prompts=(TokenPrompt(prompt),))
        await service.ask("whole", prompts=(TokenPrompt((*prompt[:20], 99, *prompt[21:])),))
        await service.ask("whole", prompts=(TokenPrompt(prompt),), cache_salt="own")
    one, two, three, salted = read_trace(path)
    assert two.at == pytest.approx(2, abs=1)
    assert (one.prompt_tokens, one.output_tokens, one.rung) == (4, len(first.tokens()), "small")
    assert (min(one.margins), len(one.margins), one.prefix) == (2.5, one.output_tokens, ())
    # Two full blocks each, of which the first is the same.
    assert len(two.prefix) == len(three.prefix) == 2
    assert two.prefix[0] == three.prefix[0]
    assert two.prefix[1] != three.prefix[1]
    assert set(salted.prefix).isdisjoint(two.prefix)
    assert "quick" not in path.read_text()


async def test_of_several_choices_the_least_sure_one_is_recorded(autojump_clock, tmp_path: Path):
    path = tmp_path / "recording.jsonl"
    # The second prompt is one token shorter: its first token is the unsure one.
    async with stage({"small": says(TEXT, {-1: 0.5}), "large": says(TEXT)}, record=path) as service:
        await service.ask("whole", prompts=(TokenPrompt(PROMPT), TokenPrompt(PROMPT[:-1])))
    (request,) = read_trace(path)
    assert (request.choices, request.rung, request.margins) == (2, "large", (0.5,))


async def test_a_refusal_is_an_arrival_too(autojump_clock, tmp_path: Path):
    path = tmp_path / "recording.jsonl"
    async with stage({"small": says(TEXT)}, record=path) as service:
        answer = await service.ask("small", prompts=(TokenPrompt((1,) * 600),))
        assert answer.refusal is not None
    (request,) = read_trace(path)
    assert (request.prompt_tokens, request.rung) == (600, "")


async def test_names_are_hidden_and_the_head_comes_once(tmp_path: Path):
    recording = Recording(tmp_path / "r.jsonl", Mailbox("recorder", 4), 0.0)
    append(recording, [RecordedRequest(FEATURES, trio.current_time())])
    append(recording, [RecordedRequest(FEATURES, trio.current_time(), margins=(float("inf"), 1.0))])
    one, two = read_trace(recording.path)
    assert one.user == two.user != ""
    assert "Ann" not in recording.path.read_text()
    assert two.margins == (99.0, 1.0)


async def test_what_comes_too_fast_is_dropped_and_counted(tmp_path: Path):
    recording = Recording(tmp_path / "r.jsonl", Mailbox("recorder", 2), 0.0)
    for _ in range(5):
        recording.note(RecordedRequest(FEATURES, 0.0))
    assert len(recording.mailbox) == 2
    assert recording.mailbox.refused_total == 3


async def test_a_disk_that_does_not_take_it_ends_nothing(tmp_path: Path):
    append(Recording(tmp_path / "no" / "r.jsonl", Mailbox("recorder", 2), 0.0), [RecordedRequest(FEATURES, 0.0)])


async def test_a_full_disk_leaves_no_half_line(tmp_path: Path):
    recording = Recording(tmp_path / "r.jsonl", Mailbox("recorder", 2), 0.0)
    append(recording, [RecordedRequest(FEATURES, trio.current_time())])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with capture_logs() as told:
        # The file takes a part of the next line, as a disk does that becomes full.
        resource.setrlimit(resource.RLIMIT_FSIZE, (recording.path.stat().st_size + 20, before[1]))
        try:
            for _ in range(3):
                append(recording, [RecordedRequest(FEATURES, trio.current_time())])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert len(read_trace(recording.path)) == 1
        append(recording, [RecordedRequest(FEATURES, trio.current_time())])
    assert len(read_trace(recording.path)) == 2
    assert [(each["event"], each.get("lost")) for each in told] == [
        ("recording_failed", None),
        ("recording_goes_on", 3),
    ]
