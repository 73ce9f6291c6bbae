"""The clients of a load test: what they send, how they read it, and what is wrong with what came back.

`answer.py` and the readers are sans-IO: bytes and their times go in. Connections and calls are thin shells around them.
HTTP itself is parsed by `actors.upstream.http`, which knows nothing of the service (docs/adr/0029-the-load-tester.md).
"""
