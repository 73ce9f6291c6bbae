"""What the gateway and the actors say to each other.

Public: `request`, `response` (the events of an answer), `errors` (refusals), and what is published:
`engine_status`, `statistics`, `counters`.
"""
