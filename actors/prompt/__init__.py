"""A model's text: prompts to token ids, what answers must be like, tool calls read out of text.

Public: all modules. Runs in the request's task; long work in a worker thread.
"""
