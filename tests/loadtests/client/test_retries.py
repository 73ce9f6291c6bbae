import pytest

from loadtests.client.retries import is_retried, pause_before


@pytest.mark.parametrize(
    ("status", "header", "retried"),
    [
        *((0, "", True), (408, "", True), (409, "", True), (429, "", True), (500, "", True)),
        *((503, "false", False), (400, "", False), (404, "", False), (422, "true", True)),
    ],
)
def test_which_answers_are_asked_again(status: int, header: str, retried: bool) -> None:
    assert is_retried(status, header) is retried


NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("attempt", "said", "jitter", "seconds"),
    [
        (2, "", 0.0, 0.5),
        (3, "", 0.0, 1.0),
        (9, "", 0.0, 8.0),
        (2, "", 1.0, 0.375),
        (2, "3", 0.5, 3.0),
        (2, "1500ms", 0.5, 1.5),
        (2, "0", 0.0, 0.5),
        (2, "3600", 0.0, 0.5),
        (2, "soon", 0.0, 0.5),
        (2, "Tue, 14 Nov 2023 22:13:30 GMT", 0.0, 10.0),
    ],
)
def test_how_long_is_waited(attempt: int, said: str, jitter: float, seconds: float) -> None:
    assert pause_before(attempt, said, jitter, NOW) == pytest.approx(seconds)
