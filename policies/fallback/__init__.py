"""The fallback ladder: what is tried after a failure, retries, circuit breakers, and the final error."""
