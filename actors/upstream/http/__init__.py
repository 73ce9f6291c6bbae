"""HTTP/1.1 towards upstreams: addresses, connections that are reused, and responses read as they arrive.

Public: `pool`, which uses the others. No redirect is followed, and no proxy of the environment is used.
"""
