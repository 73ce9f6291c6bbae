"""Pages that a person reads: HTML and SVG made of records. Pure; no script and nothing from another address."""
