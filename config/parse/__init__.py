"""Decodes TOML into typed settings, and reports all faults instead of only the first."""
