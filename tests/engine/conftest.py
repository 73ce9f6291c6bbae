import pytest

from engine.text.tokenizer import Tokenizer
from tests.engine import tiny_tokenizers


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Byte-level BPE with the end token `tiny_tokenizers.EOS`."""
    return tiny_tokenizers.byte_level_tokenizer()
