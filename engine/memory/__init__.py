"""What engines take of a machine: how large the KV pools are, and where pages lie."""
