"""LoRA adapters: read from PEFT's folders, kept by version, added to the products."""
