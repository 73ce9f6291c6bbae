import pytest
import tiny_tokenizers

from engine.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Byte-level BPE with the end token `tiny_tokenizers.EOS`."""
    return tiny_tokenizers.byte_level_tokenizer()
