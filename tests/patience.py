"""How long tests wait on the real clock."""

PATIENCE_S = 300.0
"""How long a test waits for what must come; it says nothing of speed."""
