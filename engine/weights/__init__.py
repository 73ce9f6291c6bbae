"""Weights, prepared for products: of a whole model, or of one rank's part."""
