import pytest
from msgspec import structs

from config.model.settings import Speculate
from engine.core.engine import Engine
from engine.errors import EngineDead, RequestRefused
from engine.messages import Abort, EngineStats
from engine.testing.fake_runner import FakeRunner
from engine.text.reasoning import PRESETS
from engine.text.reasoning_cap import ReasoningCap
from tests.engine import tiny_tokenizers
from tests.engine.driving import Answers, engine_settings, make_engine, run, submit

TOKENIZER = tiny_tokenizers.byte_level_tokenizer()
EOS = next(iter(TOKENIZER.eos_ids))


def saying(text: str, *, then: int = EOS) -> FakeRunner:
    """Answers every request with the tokens of `text`, then repeats `then`."""
    token_ids = TOKENIZER.encode(text)

    def script(sample):
        count = len(sample.output_token_ids)
        return (token_ids[count] if count < len(token_ids) else then), 1.0

    return FakeRunner(vocab_size=TOKENIZER.vocab_size, script=script)


def ask(runner: FakeRunner, **params):
    return run(make_engine(runner), submit(0, [1, 2, 3], **{"max_tokens": 100, "ignore_eos": False, **params}))[0]


def test_an_answer_that_began_elsewhere_goes_on_with_what_was_said():
    token_ids = TOKENIZER.encode("the quick brown fox")
    runner = saying("the quick brown fox")
    request = submit(0, [1, 2, 3, *token_ids[:3]], output_prefix=3, max_tokens=len(token_ids) - 3)
    assert run(make_engine(runner), request)[0].tokens == token_ids[3:]


# --- ends -----------------------------------------------------------------------------------------------------------
def test_an_end_token_ends_without_text():
    answer = ask(saying("the dog 🎉"))
    assert answer.text == "the dog 🎉"
    assert answer.tokens[-1] == EOS
    assert (answer.finish.reason, answer.finish.stop) == ("stop", None)
    assert answer.finish.completion_tokens == len(answer.tokens)


def test_ignore_eos_goes_on_to_the_length():
    answer = ask(saying("dog"), ignore_eos=True, max_tokens=20)
    assert answer.finish.reason == "length"
    assert len(answer.tokens) == 20
    assert answer.text == "dog"


def test_a_stop_token_of_the_request_ends_without_text():
    then = TOKENIZER.encode("!")[0]
    answer = ask(saying("dog", then=then), stop_token_ids=(then,))
    assert (answer.text, answer.finish.reason, answer.finish.stop) == ("dog", "stop", then)


@pytest.mark.parametrize(
    ("stops", "text", "stop"),
    [
        (("jumps",), "the quick brown fox ", "jumps"),
        (("x j", "brown"), "the quick ", "brown"),
        (("zebra",), "the quick brown fox jumps over", None),
        (("overt",), "the quick brown fox jumps over", None),
    ],
)
def test_stop_strings_never_show(stops, text, stop):
    engine = make_engine(saying("the quick brown fox jumps over"))
    engine.submit(submit(0, [1], max_tokens=100, ignore_eos=False, stop=stops))
    shown = ""
    while engine.has_work:
        for output in engine.step().outputs:
            shown += output.text
            assert text.startswith(shown)
            finish = output.finish
    assert (shown, finish.reason, finish.stop) == (text, "stop", stop)


def test_min_tokens_passes_over_stop_strings_and_bans_end_tokens():
    tokens = TOKENIZER.encode("dog dog dog dog")
    first, second = len(TOKENIZER.encode("dog")), len(tokens)
    answer = ask(saying("dog dog dog dog"), stop=("dog",), min_tokens=first)
    assert answer.text == "dog "
    answer = ask(saying("dog dog dog dog"), stop=("dog",), min_tokens=second)
    assert answer.text == "dog dog dog dog"
    bans = []

    def script(sample):
        bans.append(sample.banned_token_ids)

    run(
        make_engine(FakeRunner(vocab_size=400, script=script)),
        submit(0, [1], max_tokens=4, min_tokens=2, ignore_eos=False, stop_token_ids=(7, 5)),
    )
    assert bans[:3] == [(EOS, 5, 7), (EOS, 5, 7), ()]


def test_half_a_character_at_the_end_becomes_one_replacement():
    token_ids = TOKENIZER.encode("🦜")
    assert len(token_ids) > 1
    assert ask(saying("🦜"), max_tokens=len(token_ids) - 1).text == "�"


def test_output_ends_at_the_model_length():
    runner = FakeRunner(max_model_len=20)
    answer = run(make_engine(runner), submit(0, [1] * 15, max_tokens=1000))[0]
    assert (answer.finish.reason, len(answer.tokens)) == ("length", 5)
    answer = run(make_engine(FakeRunner(), max_model_len=17), submit(0, [1] * 15, max_tokens=1000))[0]
    assert (answer.finish.reason, len(answer.tokens)) == ("length", 2)


def test_output_ends_where_the_whole_pool_ends():
    runner = FakeRunner(block_size=4, total_blocks=5, max_model_len=1000)
    answer = run(make_engine(runner), submit(0, [1] * 10, max_tokens=1000))[0]
    assert (answer.finish.reason, len(answer.tokens)) == ("length", 6)


# --- refusals -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (submit(0, [1] * 64), "context_length_exceeded"),
        (submit(0, [1] * 40), "prompt_too_large_for_kv"),
        (submit(0, []), "prompt_empty"),
        (submit(0, [1, 512]), "token_out_of_vocabulary"),
        (submit(0, [-1, 1]), "token_out_of_vocabulary"),
        (submit(0, [1], logit_bias=((512, 1.0),)), "token_out_of_vocabulary"),
        (submit(0, [1], stop_token_ids=(600,)), "token_out_of_vocabulary"),
        (submit(0, [1], max_tokens=0), "max_tokens_invalid"),
    ],
)
def test_what_can_never_run_is_refused_at_once(command, code):
    engine = make_engine(FakeRunner(vocab_size=512, block_size=4, total_blocks=11, max_model_len=64))
    with pytest.raises(RequestRefused) as caught:
        engine.submit(command)
    assert caught.value.code == code
    assert not engine.has_work
    engine.accept(command)
    (output,) = engine.step().outputs
    assert (output.finish.reason, output.finish.code, output.finish.message) == ("error", code, caught.value.message)
    assert not engine.has_work


def test_an_id_in_use_is_refused():
    engine = make_engine(FakeRunner())
    engine.submit(submit(0, [1]))
    with pytest.raises(RequestRefused, match="unique"):
        engine.submit(submit(0, [2]))
    assert len(run(engine)) == 1


# --- aborts ---------------------------------------------------------------------------------------------------------
def test_an_abort_frees_at_once_and_is_said_once():
    engine = make_engine(FakeRunner())
    engine.submit(submit(0, [1] * 40, max_tokens=50))
    engine.submit(submit(1, [2] * 40, max_tokens=50))
    answers = Answers()
    for _ in range(3):
        answers.add(engine.step())
    before = engine.stats().free_blocks
    engine.accept(Abort(0))
    engine.accept(Abort(0))
    engine.accept(Abort(99))
    engine.check_integrity()
    assert engine.stats().free_blocks == before + 3
    answers.add(engine.step())
    finish = answers[0].finish
    assert (finish.reason, finish.prompt_tokens, finish.completion_tokens) == ("abort", 40, 3)
    run(engine)
    engine.accept(Abort(1))
    assert not engine.has_work


def test_an_abort_of_the_last_one_is_reported_without_a_step_of_the_runner():
    runner = FakeRunner()
    engine = make_engine(runner)
    engine.submit(submit(0, [1]))
    engine.abort(0)
    assert engine.has_work
    report = engine.step()
    assert report.outputs[0].finish.reason == "abort"
    assert (runner.steps, report.stats.free_blocks) == (0, report.stats.total_blocks)


# --- reports --------------------------------------------------------------------------------------------------------
def test_margins_and_logprobs_come_with_bytes():
    runner = saying("é")
    answer = ask(runner, logprobs=2)
    assert b"".join(entry.token_bytes for entry in answer.logprobs[:-1]).decode() == "é"
    assert answer.logprobs[-1].token_bytes == tiny_tokenizers.EOS.encode()
    assert [entry.special for entry in answer.logprobs] == [False] * (len(answer.tokens) - 1) + [True]
    assert [len(entry.top) for entry in answer.logprobs] == [2] * len(answer.tokens)
    for entry in answer.logprobs:
        assert all(spelled == TOKENIZER.token_bytes(token_id) for token_id, _, spelled in entry.top)
    assert answer.margins == [1.0] * len(answer.tokens)


def test_statistics_tell_the_work_ahead_and_the_work_done():
    ticks = iter(range(100))
    engine = Engine(FakeRunner(total_blocks=33), TOKENIZER, engine_settings(), clock=lambda: next(ticks))
    engine.submit(submit(0, [1] * 20, max_tokens=10))
    assert engine.stats().outstanding_tokens == 30
    stats = engine.step().stats
    assert stats == EngineStats(
        total_blocks=32,
        free_blocks=30,
        cached_blocks=0,
        running=1,
        waiting=0,
        outstanding_tokens=10,
        step_s=1,
        step_tokens=20,
        steps_total=1,
        prefix_queries_total=20,
        prompt_tokens_total=20,
        generation_tokens_total=1,
        kv_bytes=33 * 128,
    )
    run(engine)
    assert engine.stats().cached_blocks == 1


def test_seedless_requests_differ_and_engines_with_one_seed_agree():
    def tokens(seed):
        engine = Engine(FakeRunner(), TOKENIZER, engine_settings(), seed=seed)
        answers = run(engine, *(submit(i, [1, 2], temperature=1.0) for i in range(3)))
        return [answers[i].tokens for i in range(3)]

    assert len({tuple(each) for each in tokens(1)}) == 3
    assert tokens(1) == tokens(1) != tokens(2)


# --- death ----------------------------------------------------------------------------------------------------------
def fail_at(step):
    def on_step(number, batch):
        if number == step:
            raise RuntimeError("no more memory")

    return on_step


def test_a_failing_runner_ends_the_engine():
    engine = make_engine(FakeRunner(on_step=fail_at(2)))
    engine.submit(submit(0, [1]))
    engine.step()
    engine.step()
    for _ in range(2):
        with pytest.raises(EngineDead, match="RuntimeError: no more memory") as caught:
            engine.step()
        assert caught.value.code == "engine_failed"
    with pytest.raises(EngineDead):
        engine.submit(submit(1, [1]))


def test_a_closed_engine_says_so():
    runner = FakeRunner()
    engine = make_engine(runner)
    engine.close()
    engine.close()
    assert runner.closed
    with pytest.raises(EngineDead, match="closed"):
        engine.submit(submit(0, [1]))


def test_the_reasoning_ends_at_its_cap_with_its_marker_and_no_margin():
    closing = TOKENIZER.encode("</think>")
    cap = ReasoningCap(len(closing) + 4, PRESETS["think"], tuple(closing), opened=False)
    said = "<think>\nthe quick brown fox jumps over the lazy dog"
    for speculate in (None, Speculate(ngram=1, tokens=4)):
        engine = make_engine(saying(said), speculate=speculate)
        command = structs.replace(submit(0, [1, 2], max_tokens=40, logprobs=1), reasoning_cap=cap)
        answer = run(engine, command)[0]
        assert answer.tokens[4 : cap.tokens] == closing
        assert len(answer.margins) == len(answer.tokens) - len(closing)
        assert [each.token_id for each in answer.logprobs] == answer.tokens
        assert answer.text.count("</think>") == 1
