import pytest

from loadtests.model.run_record import GeneratorLag, Latencies, Measures
from loadtests.model.scenario import LagBound
from loadtests.running.verdict import fairness, judge


def lag(sending_s: float = 0.0, reading_s: float = 0.0) -> GeneratorLag:
    found = GeneratorLag()
    found.sending.add([sending_s] * 10)
    found.reading.add([reading_s] * 10)
    return found


def latencies(ttft_s: float) -> Latencies:
    found = Latencies()
    found.ttft.add([ttft_s])
    return found


@pytest.mark.parametrize(
    ("lags", "ttft_s", "words"),
    [
        (lag(0.004, 0.004), 1.0, ""),
        (lag(0.006, 0.004), 1.0, "its sends by 6 ms"),
        (lag(0.004, 0.006), 1.0, "its reads by 6 ms"),
        (lag(0.004, 0.0), 0.02, "5% of the median TTFT of 20 ms is 1 ms"),
    ],
)
def test_the_smaller_bound_holds(lags: GeneratorLag, ttft_s: float, words: str) -> None:
    verdict = judge(LagBound(), lags, latencies(ttft_s), [], cut_short=False)
    assert verdict.valid is (not words)
    assert words in " ".join(verdict.reasons)


def test_faults_of_this_side_and_a_run_cut_short() -> None:
    verdict = judge(LagBound(), lag(), Latencies(), ["no more files"], cut_short=True)
    assert (verdict.valid, verdict.reasons, verdict.cut_short) == (False, ("no more files",), True)


def test_a_system_that_does_not_tell_arrivals_is_a_warning() -> None:
    lags = lag()
    lags.by_kernel = False
    assert judge(LagBound(), lags, Latencies(), [], cut_short=False).warnings


@pytest.mark.parametrize(("tokens", "index"), [([5, 5], 1.0), ([10, 0], 0.5), ([9], None), ([0, 0], None)])
def test_jain_s_index(tokens: list[int], index: float | None) -> None:
    assert fairness({str(place): Measures(output_tokens=each) for place, each in enumerate(tokens)}) == index
