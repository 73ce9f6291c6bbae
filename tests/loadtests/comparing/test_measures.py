"""Names of measures."""

import pytest

from loadtests.comparing.measures import COUNTS, SHOWN, TIMES, MeasureError, measure


@pytest.mark.parametrize("name", [*SHOWN, *COUNTS, *(f"{times}_p90" for times in TIMES), "itl_p99.9", "queue_mean"])
def test_every_name_is_known(name: str) -> None:
    assert measure(name).name == name


def test_percentiles_and_means() -> None:
    assert measure("itl_p999").percent == measure("itl_p99.9").percent == 99.9
    assert measure("itl_mean").percent is None


def test_more_is_better_of_what_is_wanted() -> None:
    assert {name for name in SHOWN if measure(name).more_is_better} == {"goodput", "good_share", "tokens"}


@pytest.mark.parametrize("name", ["", "ttft", "ttft_p1", "p99", "goodput_p99"])
def test_others_are_refused(name: str) -> None:
    with pytest.raises(MeasureError):
        measure(name)
