"""The settings, typed: what a configuration can say, with defaults."""
