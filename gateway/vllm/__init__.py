"""The addresses that vLLM has beside OpenAI's: their bodies and answers."""
