"""An engine in a process of its own: what passes the pipes, and what the process does.

The other side is `actors.engines.engine_process`.
"""
