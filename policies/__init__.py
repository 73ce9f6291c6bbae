"""Pure decisions: match, complexity, cascade, ladder, breaker, quota, fair queue, shedding. No clock, no I/O."""
