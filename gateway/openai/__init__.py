"""The wire formats of the OpenAI API and of `/v1/stream`."""
