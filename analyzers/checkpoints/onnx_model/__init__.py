"""ONNX models: their weights, in the file itself or in files beside it."""

from jaynes_audit.analyzers.checkpoints.onnx_model.graph import looks_like_onnx, read_onnx

__all__ = ["looks_like_onnx", "read_onnx"]
