"""Checks the consistency of decoded settings. `config.check.all_checks` runs all checks."""
