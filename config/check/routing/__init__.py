"""Routes, cascades, ladders and rollouts: whether they can do what they say."""
