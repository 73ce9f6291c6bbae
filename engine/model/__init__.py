"""What a model's folder says: its configuration and its files of tensors."""
