"""TensorFlow Lite models (`.tflite`) and MediaPipe's bundles of them (`.task`), read in place."""

from jaynes_audit.analyzers.checkpoints.tflite_model.bundle import looks_like_task, read_task
from jaynes_audit.analyzers.checkpoints.tflite_model.model import looks_like_tflite, read_tflite

__all__ = ["looks_like_task", "looks_like_tflite", "read_task", "read_tflite"]
