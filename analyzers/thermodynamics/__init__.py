"""What the training of a checkpoint shows in its weights: its symmetries, and what steps and decay make of them."""
