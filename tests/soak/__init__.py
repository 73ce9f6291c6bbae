"""A soak: everything mixed over real sockets for a long time, and nothing grows."""
