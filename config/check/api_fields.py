"""The fields of chat and text completions. A test holds them to those that requests are decoded with."""

API_FIELDS = frozenset({
    "add_generation_prompt", "add_special_tokens", "allowed_token_ids", "audio", "bad_words", "best_of", "cache_salt",
    "chat_template", "chat_template_kwargs", "continue_final_message", "detokenize", "documents", "echo", "endpoint",
    "frequency_penalty", "function_call", "functions", "guided_choice", "guided_decoding_backend", "guided_grammar",
    "guided_json", "guided_regex", "guided_whitespace_pattern", "id", "ignore_eos", "include_reasoning",
    "include_stop_str_in_output", "kv_transfer_params", "length_penalty", "logit_bias", "logits_processors",
    "logprobs", "max_completion_tokens", "max_tokens", "media_io_kwargs", "messages", "metadata", "min_p",
    "min_tokens", "mm_processor_kwargs", "modalities", "model", "n", "parallel_tool_calls", "penstock", "prediction",
    "presence_penalty", "priority", "prompt", "prompt_cache_key", "prompt_cache_retention", "prompt_embeds",
    "prompt_logprobs", "reasoning_effort", "repetition_penalty", "request_id", "response_format", "resumable",
    "return_token_ids", "return_tokens_as_token_ids", "safety_identifier", "seed", "service_tier",
    "skip_special_tokens", "spaces_between_special_tokens", "stop", "stop_token_ids", "store", "stream",
    "stream_options", "structural_tag", "structured_outputs", "suffix", "temperature", "thinking_token_budget",
    "tool_choice", "tools", "top_k", "top_logprobs", "top_p", "truncate_prompt_tokens", "type", "use_beam_search",
    "user", "verbosity", "vllm_xargs", "web_search_options",
})  # fmt: skip
