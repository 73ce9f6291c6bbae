"""Types that the gateway and the actors exchange.

Public: `request`, `response` (the events of an answer), `errors` (refusals), and what is published:
`engine_status`, `statistics`.
"""
