"""What is done between a decoder's matrix products, and the products: compiled for the CPU, or in plain torch."""
