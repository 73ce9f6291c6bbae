"""One attempt on the virtual clock: its sequences, and how many of their tokens its cascade machine has processed."""

from collections.abc import Callable

from gateway.simulation.draws import Margins
from gateway.simulation.replayed_sequence import ReplayedSequence
from gateway.simulation.simulated_queue import SimulatedJob
from policies.answer.answer_effects import MachineAttempt
from policies.cascade.cascade import Accept, CascadeMachine, Escalate, Release
from policies.model.plan import PlannedCascade

TOKEN = (0,)
"""A trace has no text: this one stands for every token."""
_WORD = " x"
"""The text of every output."""


class SimulatedAttempt:
    """One attempt of a simulated request."""

    def __init__(self, of: MachineAttempt, cascade: PlannedCascade | None) -> None:
        self.of = of
        self.cascade = cascade
        self.margins = Margins(())
        self.escalates_at: int | None = None
        """The output token of each choice at which the cascade machine will escalate; None: at none of them."""
        self.sequences: list[ReplayedSequence] = []
        self.fed: list[int] = []
        """By sequence: the number of output tokens that the cascade machine has processed."""
        self.unfinished = 0
        self.prompt_tokens = 0
        self.job: SimulatedJob
        self.generated = 0
        """Output tokens of all sequences; set when the attempt has ended."""

    @property
    def last_output_at(self) -> float | None:
        """When the last token was generated; None: there is none yet."""
        has_output = any(sequence.generated for sequence in self.sequences)
        return max(sequence.at for sequence in self.sequences) if has_output else None

    def next_stop(self, sequence: ReplayedSequence) -> int:
        """The number of known tokens at which the cascade machine or the client must process the output next."""
        machine, cascade = self.of.cascade, self.cascade
        if machine is None or cascade is None:
            return sequence.end
        stop = sequence.end
        generated = sequence.generated
        if self.escalates_at is not None and self.escalates_at > generated:
            stop = min(stop, sequence.begin + self.escalates_at)
        if not sequence.visible and machine.mode == "window":
            stop = min(stop, sequence.begin + max(cascade.window, generated) + 1)
        return stop

    def feed(
        self, machine: CascadeMachine, sequence: ReplayedSequence, show: Callable[[ReplayedSequence, int], None]
    ) -> str:
        """Pass the new tokens to the machine. Returns "escalate", the reason why the answer was accepted, or "".

        `show` is called with a sequence and the number of its tokens that are released.
        The last token (in mode "window", the last `window` + 1) is passed alone, all tokens before as one output, like
        those of an accepted draft.
        """
        choice, generated, fed = sequence.choice, sequence.generated, self.fed[sequence.choice]
        assert self.cascade is not None
        single = generated - (self.cascade.window if machine.mode == "window" else 0) - 1
        while fed < generated:
            upto = max(single, fed + 1)
            margins = self.margins.of(fed, upto)
            finish = sequence.finished and upto == generated
            effects = machine.on_output(choice, TOKEN * (upto - fed), _WORD, margins, finish)
            fed = self.fed[choice] = upto
            for effect in effects:
                match effect:
                    case Release(upto=shown):
                        show(self.sequences[effect.index], shown)
                    case Escalate():
                        return "escalate"
                    case Accept(reason):
                        return reason
        return ""
