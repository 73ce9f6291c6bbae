"""Models: reading a model directory, and the layers of decoders and encoders over one flat batch."""
