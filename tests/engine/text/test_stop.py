import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.text.stop import StopMatcher

# A small alphabet, so that partial and overlapping matches are frequent.
TEXTS = st.text("aab", max_size=30)
STOPS = st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=4)


def naive(text: str, stops: list[str]) -> tuple[str, str | None]:
    """Read character by character; at the first end of a stop string, cut before the longest that ends there."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            stop = max(ending, key=len)
            return text[: end - len(stop)], stop
    return text, None


def pieces(text: str, cuts: list[int]) -> list[str]:
    at = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in itertools.pairwise(at)]


@settings(max_examples=600, deadline=None)
@given(TEXTS, STOPS, st.lists(st.integers(0, 30), max_size=30))
def test_equals_naive_search_however_the_text_is_cut(text, stops, cuts):
    matcher = StopMatcher(stops)
    before, stop = naive(text, stops)
    shown = ""
    for piece in pieces(text, cuts):
        shown += matcher.push(piece)
        if matcher.matched is not None:
            break
        assert before.startswith(shown), "something was shown that belongs to a stop string"
    shown += matcher.flush()
    assert (shown, matcher.matched) == (before, stop)


@settings(max_examples=300, deadline=None)
@given(TEXTS, STOPS)
def test_holds_back_no_more_than_needed(text, stops):
    matcher = StopMatcher(stops)
    shown = ""
    for count, letter in enumerate(text, 1):
        shown += matcher.push(letter)
        if matcher.matched is not None:
            return
        seen = text[:count]
        possible = [n for stop in stops for n in range(1, len(stop)) if seen.endswith(stop[:n])]
        assert shown == seen[: len(seen) - max(possible, default=0)]


def test_text_that_only_looked_like_a_stop_is_released():
    matcher = StopMatcher(["###"])
    assert matcher.push("a##") == "a"
    assert matcher.push("b#") == "##b"
    assert matcher.flush() == "#"
    assert matcher.matched is None
