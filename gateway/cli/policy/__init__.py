"""The commands `penstock policy ...`, and the flags that describe a request."""
