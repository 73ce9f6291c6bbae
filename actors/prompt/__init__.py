"""Prompts and model text: encoding prompts, constraints on outputs, tool calls parsed from text.

Public: all modules. Runs in the request's task; long computations run in a worker thread.
"""
