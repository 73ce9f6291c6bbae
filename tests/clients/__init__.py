"""Clients of others, unmodified, against one real gateway: `make clients` runs them and writes docs/clients.md."""
