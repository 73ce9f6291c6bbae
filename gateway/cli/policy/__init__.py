"""The commands `penstock policy ...`, and the command line's description of a request."""
