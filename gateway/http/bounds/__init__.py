"""What one peer and one key may hold of the server: connections, bytes, seconds. Pure."""
