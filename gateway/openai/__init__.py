"""The wire formats of the OpenAI API and of the WebSocket `/v1/stream`."""
