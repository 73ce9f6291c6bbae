"""Bodies of requests, checked, as an `InferenceRequest`."""
