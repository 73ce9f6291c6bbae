"""Reads and compiles a policy file for the commands of `penstock policy`."""

from pathlib import Path

from actors.prompt.model_text import tokenizer_digest
from config.load import load_settings
from config.model.settings import Settings
from config.profiles import embedded_profile
from engine.errors import ModelError
from engine.memory.resources import longest_sequence
from engine.model.vector_model import read_vector_model, vector_identity
from policies.authoring.decision import Decider
from policies.model.backends import Backends, EmbeddingModel

_ASSUMED = "assumed"


def read_policy(path: Path | None) -> tuple[Decider, tuple[str, ...]]:
    """The compiled policy of the file, or of the embedded configuration; and notes on what was assumed.

    Raises ConfigError.
    """
    settings = load_settings(path or embedded_profile())
    digests, notes = tokenizers(settings)
    known, more = backends(settings)
    return Decider(settings, digests, known), notes + more


def backends(settings: Settings) -> tuple[Backends, tuple[str, ...]]:
    """How much each engine holds and what it makes, by its folder. A pool's size is counted where it is stated."""
    lengths: dict[str, int] = {}
    encoders: dict[str, EmbeddingModel] = {}
    missing: list[str] = []
    for name, engine in settings.engines.items():
        try:
            vectors = read_vector_model(engine.model, engine.rerank)
            if vectors is not None:
                lengths[name] = engine.max_model_len or vectors.max_tokens
                sizes = vectors.sizes
                encoders[name] = EmbeddingModel(vector_identity(engine), sizes.whole, sizes.shorter, len(sizes.labels))
            else:
                lengths[name] = longest_sequence(engine)
        except ModelError:
            missing.append(name)
    note = f"no model for {', '.join(missing)} on this machine: taken to make text and to hold every prompt"
    return Backends(lengths, encoders), (note,) if missing else ()


def tokenizers(settings: Settings) -> tuple[dict[str, str], tuple[str, ...]]:
    """A digest of each engine's tokenizer. Engines without model files on this machine are assumed to share one."""
    by_engine = {name: tokenizer_digest(engine.model) for name, engine in settings.engines.items()}
    missing = [name for name, digest in by_engine.items() if not digest]
    known = {digest for digest in by_engine.values() if digest}
    assumed = known.pop() if len(known) == 1 else _ASSUMED
    digests = {name: digest or assumed for name, digest in by_engine.items()}
    for name, upstream in settings.upstreams.items():
        if upstream.tokenizer is not None:
            digests[name] = digests.get(upstream.tokenizer, "")
    note = f"no tokenizer.json for {', '.join(missing)} on this machine: taken to share one tokenizer"
    return digests, (note,) if missing else ()
