"""Memory and cores of the machine: resolving "auto" settings, sizing and allocating KV pools, swapping blocks."""
