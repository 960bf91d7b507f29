"""What a trainer left beside the weights: optimizers, schedulers, logs and arguments, read without running them."""
