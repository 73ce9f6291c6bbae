"""Static limits of an engine; requests beyond them are refused before they are queued."""

import msgspec

from engine.errors import RequestRefused
from engine.messages import Submit


class EngineLimits(msgspec.Struct, frozen=True):
    """Limits set by the model, the settings and the size of the KV pool."""

    vocab_size: int
    model_tokens: int
    """Longest sequence (prompt + output) by model and settings."""
    pool_tokens: int
    """Tokens that the whole KV pool holds."""
    default_output_tokens: int | None = None
    """Output limit of requests that state none, from generation_config.json; None: up to `max_model_len`."""

    @property
    def max_model_len(self) -> int:
        """Longest sequence that can run."""
        return min(self.model_tokens, self.pool_tokens)

    def check(self, command: Submit) -> None:
        """Check a request that could never run. Raises RequestRefused: with one of the codes below."""
        prompt, params = command.prompt_token_ids, command.params
        if not prompt:
            raise RequestRefused("prompt_empty", "The prompt has no tokens; send at least one.")
        # A prompt that is only scored needs no room for an output token.
        length = len(prompt) - params.prompt_only
        if length >= self.model_tokens:
            raise RequestRefused(
                "context_length_exceeded",
                f"The prompt has {len(prompt)} tokens; this model's limit is {self.model_tokens} tokens, prompt and "
                "output together. Shorten the prompt.",
            )
        if length >= self.pool_tokens:
            raise RequestRefused(
                "prompt_too_large_for_kv",
                f"The prompt has {len(prompt)} tokens; the engine's whole KV pool holds {self.pool_tokens}. Shorten "
                "the prompt, or let the operator give the engine more kv.memory.",
            )
        if params.max_tokens < 1:
            raise RequestRefused("max_tokens_invalid", f"max_tokens is {params.max_tokens}; ask for at least 1.")
        for where, ids in (
            ("The prompt", (min(prompt), max(prompt))),
            ("The draft", command.draft),
            ("logit_bias", (token_id for token_id, _ in params.logit_bias)),
            ("stop_token_ids", params.stop_token_ids),
            ("allowed_token_ids", params.allowed_token_ids),
            ("logprob_token_ids", params.logprob_token_ids),
        ):
            for token_id in ids:
                if not 0 <= token_id < self.vocab_size:
                    raise RequestRefused(
                        "token_out_of_vocabulary",
                        f"{where} names token {token_id}; this model's token ids are 0 to {self.vocab_size - 1}.",
                    )
