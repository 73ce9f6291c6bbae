"""Files and batches as the OpenAI API writes them."""
