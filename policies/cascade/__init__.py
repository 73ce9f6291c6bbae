"""The small-to-large cascade: how sure the small model is, when its answer is trusted, what of it may be shown."""
