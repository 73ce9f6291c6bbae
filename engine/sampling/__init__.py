"""From logits to tokens: what a request may ask for, noise, filters, grammars."""
