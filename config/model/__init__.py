"""The types of the settings: all tables and keys of a configuration, with their defaults."""
