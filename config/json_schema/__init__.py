"""The JSON Schema of the TOML file, for editors."""
