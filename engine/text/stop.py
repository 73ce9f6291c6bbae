"""Stop strings: matching over a stream of text pieces, without emitting any part of a match."""

from collections.abc import Sequence


class StopMatcher:
    """Finds the stop string that is complete first (the longest of those that end together).

    One automaton per string (Knuth, Morris and Pratt, "Fast Pattern Matching in Strings", 1977): its state is the
    length of the longest suffix of the text that is a prefix of the string. The longest state is what must be held
    back.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = sorted(stops, key=len, reverse=True)
        """Longest first: of two that end together, the longer one starts earlier."""
        self._borders = [_borders(stop) for stop in self._stops]
        self._states = [0] * len(self._stops)
        self._held = ""
        self.matched: str | None = None
        """The stop string that matched; nothing may be pushed afterwards."""

    def push(self, text: str) -> str:
        """Add text; return what certainly precedes any stop string."""
        states = self._states
        for position, character in enumerate(text):
            for index, stop in enumerate(self._stops):
                state = states[index]
                while state and stop[state] != character:
                    state = self._borders[index][state]
                if stop[state] == character:
                    state += 1
                    if state == len(stop):
                        self.matched = stop
                        before = self._held + text[: position + 1]
                        self._held = ""
                        return before[: len(before) - len(stop)]
                states[index] = state
        held = max(states, default=0)
        shown = self._held + text
        if not held:
            self._held = ""
            return shown
        self._held = shown[-held:]
        return shown[:-held]

    def flush(self) -> str:
        """End the text: return what was held back."""
        held, self._held = self._held, ""
        return held


def _borders(pattern: str) -> list[int]:
    """borders[n]: length of the longest proper prefix of pattern[:n] that is also its suffix."""
    borders = [0] * len(pattern)
    state = 0
    for length in range(2, len(pattern)):
        character = pattern[length - 1]
        while state and pattern[state] != character:
            state = borders[state]
        if pattern[state] == character:
            state += 1
        borders[length] = state
    return borders
