"""Questions about a text, and what a model says by the probabilities of its answers."""
