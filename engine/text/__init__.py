"""Text processing: tokenizers, chat templates, incremental detokenization, stop strings, tool calls."""
