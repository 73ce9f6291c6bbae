"""Tokens in, tokens out: loading, model, paged KV, scheduler, sampling, step loop, tokenizer."""
