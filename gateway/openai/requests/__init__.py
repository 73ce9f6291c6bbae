"""Request bodies: decoded, checked, converted to the parts of an `InferenceRequest`."""
