"""TOML to typed settings: parsing, checks with the line and a suggestion, JSON Schema, profiles."""
