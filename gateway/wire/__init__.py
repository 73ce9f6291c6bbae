"""The OpenAI API's words: bytes to typed requests, events to bytes. No IO."""
