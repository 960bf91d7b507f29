"""A run of training, seen in its checkpoints: what moved from one to the next, and when the distributions settled."""
