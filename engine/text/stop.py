"""Stop strings: found in a stream of text however it is cut into pieces, and never shown in part."""

from collections.abc import Sequence


class StopMatcher:
    """Looks for the stop string that is complete first (of those, the longest).

    One Knuth-Morris-Pratt automaton a string ("Fast Pattern Matching in Strings", 1977): its state is the length of the
    longest end of the text that begins the string, so the longest state is what has to be held back.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = sorted(stops, key=len, reverse=True)
        """Longest first: of two that end together, the longer one starts earlier."""
        self._borders = [_borders(stop) for stop in self._stops]
        self._states = [0] * len(self._stops)
        self._held = ""
        self.matched: str | None = None
        """The stop string that was found; nothing may be pushed any more."""

    def push(self, text: str) -> str:
        """Take in more text; return what is certain to come before any stop string."""
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
        """The text ends here: return what was held back."""
        held, self._held = self._held, ""
        return held


def _borders(pattern: str) -> list[int]:
    """borders[n]: length of the longest proper beginning of pattern[:n] that is also its end."""
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
