"""The forward pass: decoder, encoder, and the operations between their products on each kind of device."""
