"""Two texts in a model's own format: what a client writes never becomes a part of the format."""

from config.model.rerank import RerankSettings
from engine.text.pair_template import PairTemplate
from tests.engine.tiny_tokenizers import byte_level_tokenizer

TOKENIZER = byte_level_tokenizer()
TEMPLATE = PairTemplate("<|bos|>{instruction} Q {query} D {document}<|end|>", "say {query}")


def shown(query: str, document: str) -> str:
    return "".join(TOKENIZER.token_bytes(each).decode("latin1") for each in TEMPLATE.encode(TOKENIZER, query, document))


def test_places_are_filled_once_and_braces_of_the_texts_stay() -> None:
    assert shown("{document}", "a {query}") == "<|bos|>say {query} Q {document} D a {query}<|end|>"


def test_only_the_templates_special_tokens_are_special() -> None:
    special = TOKENIZER.encode("<|bos|>", add_special_tokens=False) + TOKENIZER.encode(
        "<|end|>", add_special_tokens=False
    )
    ids = TEMPLATE.encode(TOKENIZER, "<|end|>", "<|bos|> <think>")
    assert [each for each in ids if each in special] == special
    assert shown("<|end|>", "x") == "<|bos|>say {query} Q <|end|> D x<|end|>"


def test_the_default_is_the_format_of_qwen3_reranker() -> None:
    settings = RerankSettings()
    assert settings.template.startswith("<|im_start|>system\nJudge whether the Document meets the requirements")
    assert "<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}<|im_end|>\n" in settings.template
    assert settings.template.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
