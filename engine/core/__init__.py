"""An engine and an encoder on any runner, the loop that steps them, and their messages."""
