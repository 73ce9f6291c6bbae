"""Inference engine: model loading, paged KV cache, scheduler, sampling, step loop, tokenizer."""
