"""What an engine can take in at all: checked before a request waits for anything."""

import msgspec

from engine.core.messages import Submit
from engine.errors import RequestRefused


class EngineLimits(msgspec.Struct, frozen=True):
    """Bounds that the model and its KV pool set."""

    vocab_size: int
    model_tokens: int
    """Longest sequence, prompt and output, by the model and the settings."""
    pool_tokens: int
    """Tokens that the whole KV pool holds."""
    default_output_tokens: int | None = None
    """Of an answer that nobody limits, by the model's own word; None: whatever fits."""

    @property
    def max_model_len(self) -> int:
        """Longest sequence that can be run."""
        return min(self.model_tokens, self.pool_tokens)

    def check(self, command: Submit) -> None:
        """Refuse what could never run.

        Raises:
            RequestRefused: see the codes below.
        """
        prompt, params = command.prompt_token_ids, command.params
        if not prompt:
            raise RequestRefused("prompt_empty", "the prompt has no tokens; send at least one")
        # What is only read needs no room for a token after it.
        length = len(prompt) - params.prompt_only
        if length >= self.model_tokens:
            raise RequestRefused(
                "context_length_exceeded",
                f"the prompt has {len(prompt)} tokens; this model's limit is {self.model_tokens} tokens, prompt and "
                "output together; shorten the prompt",
            )
        if length >= self.pool_tokens:
            raise RequestRefused(
                "prompt_too_large_for_kv",
                f"the prompt has {len(prompt)} tokens; the engine's whole KV pool holds {self.pool_tokens}; shorten "
                "the prompt, or give the engine more kv.memory",
            )
        if params.max_tokens < 1:
            raise RequestRefused("max_tokens_invalid", f"max_tokens is {params.max_tokens}; ask for at least 1")
        for where, ids in (
            ("the prompt", (min(prompt), max(prompt))),
            ("the draft", command.draft),
            ("logit_bias", (token_id for token_id, _ in params.logit_bias)),
            ("stop_token_ids", params.stop_token_ids),
            ("allowed_token_ids", params.allowed_token_ids),
        ):
            for token_id in ids:
                if not 0 <= token_id < self.vocab_size:
                    raise RequestRefused(
                        "token_out_of_vocabulary",
                        f"{where} names token {token_id}; this model's token ids are 0 to {self.vocab_size - 1}",
                    )
