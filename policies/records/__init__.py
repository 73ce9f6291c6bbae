"""Records of decisions and of traffic, for explanations and replay."""
