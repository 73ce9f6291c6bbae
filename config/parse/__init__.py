"""From TOML to typed settings, finding every fault instead of the first."""
