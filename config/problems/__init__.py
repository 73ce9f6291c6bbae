"""What can be wrong with a configuration, and where it stands."""
