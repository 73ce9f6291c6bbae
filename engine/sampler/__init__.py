"""From logits to tokens, on the host or on the device, and scores of prompts."""
