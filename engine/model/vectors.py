"""What a `config.json` says about a vector that a model makes: its size, the labels of its scores, how they are made.

Shared by encoders and decoders.
"""

from typing import Literal

import msgspec

from engine.model.config_reader import ConfigReader

ScoreActivation = Literal["identity", "sigmoid", "softmax"]
_SENTENCE_ACTIVATIONS: dict[object, ScoreActivation] = {
    "torch.nn.modules.linear.Identity": "identity",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
}
_PROBLEMS: dict[object, ScoreActivation] = {
    "regression": "identity",
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
}


class EmbeddingSizes(msgspec.Struct, frozen=True):
    """What the numbers are that a model makes of an input: how many, and of what."""

    whole: int
    shorter: tuple[int, ...] | None = ()
    """Sizes to which the vector may be truncated (Matryoshka training); None: any."""
    labels: tuple[str, ...] = ()
    """The numbers are scores of these labels; (): they are an embedding."""

    def allows(self, size: int) -> bool:
        return size == self.whole or (0 < size < self.whole and (self.shorter is None or size in self.shorter))


class VectorReader(ConfigReader):
    """Reads the keys of sentence-transformers, vLLM and transformers' classifiers."""

    def labels(self) -> tuple[str, ...]:
        """As transformers reads them: `id2label`, else so many as `num_labels` says, else two."""
        names = self._raw.get("id2label")
        if names is None:
            return tuple([f"LABEL_{number}" for number in range(self.whole("num_labels", 2))])
        listed = [names.get(str(number)) for number in range(len(names))] if isinstance(names, dict) else []
        found = tuple([name for name in listed if isinstance(name, str)])
        if not found or len(found) != len(listed):
            raise self.bad("id2label", "expected a name for each number from 0 on")
        return found

    def score_activation(self, labels: int) -> ScoreActivation:
        """As sentence-transformers' CrossEncoder and vLLM read it.

        The function that the files name, else the one of the training's problem, else by the number of labels.
        """
        section = self._raw.get("sentence_transformers")
        named = section.get("activation_fn") if isinstance(section, dict) else None
        key = "sbert_ce_default_activation_function"
        if named is not None:
            return self.chosen("sentence_transformers.activation_fn", named, _SENTENCE_ACTIVATIONS)
        if self._raw.get(key) is not None:
            return self.chosen(key, self._raw[key], _SENTENCE_ACTIVATIONS)
        problem = self._raw.get("problem_type")
        if problem is not None:
            return self.chosen("problem_type", problem, _PROBLEMS)
        return "sigmoid" if labels == 1 else "softmax"

    def shorter_sizes(self, hidden: int) -> tuple[int, ...] | None:
        """As in vLLM: a list of sizes, or a flag that allows any (Kusupati, "Matryoshka Representation Learning")."""
        sizes = self._raw.get("matryoshka_dimensions")
        if sizes is None:
            return None if self.flag("is_matryoshka", default=False) else ()
        if not isinstance(sizes, list) or not all(type(size) is int and 0 < size <= hidden for size in sizes):
            raise self.bad("matryoshka_dimensions", f"expected a list of sizes up to {hidden}")
        return tuple(sorted(size for size in sizes if size < hidden))
