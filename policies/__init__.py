"""Pure decision logic: routing, cascades, fallback, admission, queueing, rollout. No clock, no I/O, no randomness."""
