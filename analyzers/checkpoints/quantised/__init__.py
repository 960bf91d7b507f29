"""Quantised weights in safetensors and PyTorch files: stored tensors that together are one weight.

`recognition` finds them, by their names, dtypes and shapes first and by config.json second; each family of schemes has
a module that says what fits it; `layouts` and `decoder` turn stored bytes into numbers.
"""

from jaynes_audit.analyzers.checkpoints.quantised.recognition import dequantised

__all__ = ["dequantised"]
