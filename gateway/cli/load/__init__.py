"""The commands `penstock load ...`: a load test of any OpenAI-compatible server."""
