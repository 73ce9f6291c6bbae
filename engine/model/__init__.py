"""What a model directory holds, as layers over one flat batch: decoders and encoders."""
