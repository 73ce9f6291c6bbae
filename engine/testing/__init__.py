"""Fake runners without a model, for tests and benchmarks; the conformance tests compare them with the real ones."""
