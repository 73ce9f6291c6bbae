"""Runners without a model, for tests and benchmarks; held to the real ones by the conformance tests."""
