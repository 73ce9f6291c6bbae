"""One try of one rung on the virtual clock: what its sequences have made, and what a cascade machine has seen of it."""

from collections.abc import Callable

from gateway.simulation.draws import Margins
from gateway.simulation.replayed_sequence import Replayed
from gateway.simulation.simulated_queue import SimulatedJob
from policies.answer.answer_effects import MachineAttempt
from policies.cascade.cascade import Accept, CascadeMachine, Escalate, Release
from policies.model.plan import PlannedCascade

TOKEN = (0,)
"""A trace has no words: all its tokens are this one ..."""
_WORD = " x"
"""... and each output is taken for one."""


class SimulatedAttempt:
    """Its sequences, and how far its cascade machine has seen them."""

    __slots__ = (
        "cascade",
        "fed",
        "gives_up_at",
        "job",
        "made",
        "margins",
        "of",
        "prompt_tokens",
        "sequences",
        "unfinished",
    )

    def __init__(self, of: MachineAttempt, cascade: PlannedCascade | None) -> None:
        self.of = of
        self.cascade = cascade
        self.margins = Margins(())
        self.gives_up_at: int | None = None
        """Output token of each choice at which the cascade machine will escalate."""
        self.sequences: list[Replayed] = []
        self.fed: list[int] = []
        """Output tokens of each sequence that the machine has seen."""
        self.unfinished = 0
        self.prompt_tokens = 0
        self.job: SimulatedJob
        self.made = 0
        """Output tokens, once it is over."""

    @property
    def last_output_at(self) -> float | None:
        """None: no token has come."""
        if not any(each.made for each in self.sequences):
            return None
        return max(each.at for each in self.sequences)

    def next_stop(self, sequence: Replayed) -> int:
        """Known tokens at which the cascade machine, or the reader, has something new."""
        machine, cascade = self.of.cascade, self.cascade
        if machine is None or cascade is None:
            return sequence.end
        stop = sequence.end
        made = sequence.made
        if self.gives_up_at is not None and self.gives_up_at > made:
            stop = min(stop, sequence.begin + self.gives_up_at)
        if not sequence.visible and machine.mode == "window":
            stop = min(stop, sequence.begin + max(cascade.window, made) + 1)
        return stop

    def feed(self, machine: CascadeMachine, sequence: Replayed, show: Callable[[Replayed, int], None]) -> str:
        """The machine sees all tokens since the last time. "escalate", or why the answer was accepted, or "".

        `show` is called with a sequence of which so many tokens are released.
        Tokens that cannot be the end of what is released now go in as one output, as those of an accepted draft do.
        """
        choice, made, fed = sequence.choice, sequence.made, self.fed[sequence.choice]
        assert self.cascade is not None
        single = made - self.cascade.window - 1 if machine.mode == "window" else made - 1
        while fed < made:
            upto = max(single, fed + 1)
            margins = self.margins.of(fed, upto)
            finish = sequence.finished and upto == made
            effects = machine.on_output(choice, TOKEN * (upto - fed), _WORD, margins, finish)
            fed = self.fed[choice] = upto
            for effect in effects:
                match effect:
                    case Release(upto=shown):
                        show(self.sequences[effect.index], shown)
                    case Escalate():
                        return "escalate"
                    case Accept(why):
                        return why
        return ""
