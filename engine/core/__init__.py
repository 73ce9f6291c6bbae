"""An engine and an encoder on any runner, and the loop that steps them."""
