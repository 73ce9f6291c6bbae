"""What a cascade saw of the small model's answer, kept for a client that asks for an explanation. Sans-IO."""

from actors.api.response import CascadeStep, CascadeTrace
from policies.model.plan import PlannedCascade


class CascadeTracer:
    """One attempt of the small model, of which every output is noted in order."""

    def __init__(self, cascade: PlannedCascade, mode: str, choices: int) -> None:
        """`mode`: the emit mode in which the attempt is made, which may differ from the policy's."""
        self._cascade = cascade
        self._mode = mode
        self._steps: list[list[CascadeStep]] = [[] for _ in range(choices)]
        self._shown = [0] * choices

    def note(self, index: int, text: str, margins: tuple[float, ...], statistic: float) -> None:
        """An output of a choice, and the choice's statistic after it."""
        self._steps[index].append(CascadeStep(text, margins, statistic))

    def released(self, index: int, outputs: int) -> None:
        """The first `outputs` outputs of a choice are part of the answer."""
        self._shown[index] = outputs

    def trace(self, index: int) -> CascadeTrace:
        """Of one choice."""
        cascade = self._cascade
        return CascadeTrace(
            name=cascade.name,
            small=cascade.small.to or "",
            large=cascade.large.to or "",
            mode=self._mode,
            statistic=cascade.statistic,
            threshold=cascade.threshold,
            index=index,
            shown=self._shown[index],
            steps=tuple(self._steps[index]),
        )
