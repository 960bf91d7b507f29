"""From a checkpoint to a verdict: everything that needs no terminal."""
