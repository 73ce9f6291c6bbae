"""A scenario, a run record and their parts. Values without a clock, randomness or I/O of their own."""
