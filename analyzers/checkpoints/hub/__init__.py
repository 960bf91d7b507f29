"""Checkpoints on the Hugging Face Hub: read in place, or through the cache that its other clients share."""
