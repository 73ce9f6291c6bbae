"""What only the commands for authors of policies use: explanations, tests, comparisons, fits.

Serving imports none of it.
"""
