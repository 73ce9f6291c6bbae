"""Other people's servers: one actor for each upstream, its HTTP client, and what is asked and read.

Public: `upstream_actor`, `upstream_status`, `client`, `secret`. The contract is docs/upstreams.md.
"""
