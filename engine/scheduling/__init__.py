"""Scheduling of steps: sequences, KV blocks with their prefix cache, step plans, n-gram drafts. Pure."""
