"""LoRA adapters: reading PEFT folders, versions, low-rank deltas on the decoder's products."""
