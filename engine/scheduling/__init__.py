"""Who computes what in a step: sequences, KV blocks and their prefix cache, plans, drafts. Pure."""
