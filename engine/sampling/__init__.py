"""Sampling: parameters, filters, penalties, random draws, grammars, prompt scores."""
