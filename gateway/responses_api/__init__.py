"""The wire format of OpenAI's Responses API: its requests, response objects and events."""
