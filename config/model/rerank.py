"""Settings of an engine whose model answers a question about two texts, so that its answer can be read as a score."""

from config.model.table import Table

PLACES = ("{instruction}", "{query}", "{document}")
"""What a template has instead of the texts."""
_QWEN3 = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n\n</think>\n\n"
)
"""The format in which Qwen3-Reranker was trained."""


class RerankSettings(Table, frozen=True):
    """The model makes a score of two texts: how probable it is that it answers "yes" rather than "no".

    For models that answer in tokens, like Qwen3-Reranker, whose format the defaults are. An empty table will do.
    """

    instruction: str = "Given a web search query, retrieve relevant passages that answer the query"
    """What `{instruction}` stands for: the task, in the model's own language."""
    template: str = _QWEN3
    """The whole prompt, special tokens included, with `{query}` and `{document}`, and perhaps `{instruction}`."""
    yes: str | None = None
    """The answer that makes the score, one token of the model. None: as its files say, else "yes"."""
    no: str | None = None
    """The answer that it is compared with, one token of the model. None: as its files say, else "no"."""
