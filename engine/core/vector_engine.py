"""What engines whose outputs are vectors have in common: the commands that they take."""

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from engine.core.lifecycle import EngineBase
from engine.errors import ModelError, RequestRefused
from engine.lora.adapters import Adapter, PreparedAdapter
from engine.messages import Abort, AddAdapter, Command, DropAdapter, Embed, ExpectTokens, Submit, Weigh


class VectorEngine(EngineBase):
    """Each accepted input gets exactly one output, which carries its finish, unless the engine itself fails."""

    _makes: ClassVar[str]
    """For refusals."""

    @abstractmethod
    def submit(self, command: Embed) -> None:
        """Queue an input. Raises RequestRefused if it can never be computed here, EngineDead."""

    def accept(self, command: Command) -> None:
        """Execute a command that has no reply: a refusal becomes the input's output in the next report."""
        match command:
            case Embed():
                try:
                    self.submit(command)
                except RequestRefused as error:
                    self._refuse(command.sequence_id, len(command.token_ids), error)
            case Abort(sequence_id):
                self.abort(sequence_id)
            case (
                Submit(sequence_id=sequence_id, prompt_token_ids=prompt)
                | Weigh(sequence_id=sequence_id, prompt_token_ids=prompt)
            ):
                refused = RequestRefused("not_generating", f"This model makes {self._makes}, not text.")
                self._refuse(sequence_id, len(prompt), refused)
            case ExpectTokens() | AddAdapter() | DropAdapter():
                pass

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        return ()

    def read_adapter(self, directory: Path) -> PreparedAdapter:
        raise ModelError("adapter_unsupported", f"{directory}: adapters are served for models that make text")
