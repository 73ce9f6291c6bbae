"""The highest rate at which SLOs hold: a search over rates, each of which is tried by a run."""
