"""Upstream servers: one actor per upstream, its HTTP client, request bodies, and parsing of responses.

Public: `upstream_actor`, `upstream_status`, `client`, `secret`. The contract is docs/upstreams.md.
"""
