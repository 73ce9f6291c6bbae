"""Conditions as CI writes them."""

import pytest

from loadtests.comparing.condition import parse_condition
from loadtests.comparing.measures import MeasureError


@pytest.mark.parametrize(
    ("text", "name", "above", "change", "relative"),
    [
        ("ttft_p99>+10%", "ttft_p99", True, 0.1, True),
        (" goodput < -5% ", "goodput", False, -0.05, True),
        ("e2e_p50>+20ms", "e2e_p50", True, 0.02, False),
        ("e2e_service_mean>+1.5s", "e2e_service_mean", True, 1.5, False),
        ("failed_share>+1pp", "failed_share", True, 0.01, False),
        ("tokens<-100/s", "tokens", False, -100.0, False),
        ("itl_p999>+0%", "itl_p999", True, 0.0, True),
        ("good_token_cost>+5%", "good_token_cost", True, 0.05, True),
    ],
)
def test_conditions(text: str, name: str, above: bool, change: float, relative: bool) -> None:
    condition = parse_condition(text)
    found = (condition.measure.name, condition.above, round(condition.change, 9), condition.relative)
    assert found == (name, above, change, relative)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no condition: write such as"),
        ("ttft_p99", "is no condition"),
        ("ttft_p99>10%", "is no condition"),
        ("ttft_p98>+10%", "did you mean ttft_p99?"),
        ("goodpt<-1%", "did you mean goodput?"),
        ("goodput<-1ms", "changes by %, /s, not by 'ms'"),
        ("ttft_p50>+1pp", "changes by %, ms, s, not by 'pp'"),
        ("failed_share>+1s", "changes by %, pp, not by 's'"),
        ("token_cost>+1s", "changes by %, not by 's'"),
    ],
)
def test_what_is_none(text: str, words: str) -> None:
    with pytest.raises(MeasureError, match=r".+") as caught:
        parse_condition(text)
    assert words in str(caught.value)
