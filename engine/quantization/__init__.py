"""Weight-only quantization to int8 and int4: quantizing, storing, loading, and products."""
