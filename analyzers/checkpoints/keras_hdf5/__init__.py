"""Keras's weights: HDF5 files (`.h5`, `.weights.h5`) and `.keras` archives around them."""

from jaynes_audit.analyzers.checkpoints.keras_hdf5.archive import looks_like_keras, read_keras
from jaynes_audit.analyzers.checkpoints.keras_hdf5.weights import looks_like_hdf5, read_hdf5

__all__ = ["looks_like_hdf5", "looks_like_keras", "read_hdf5", "read_keras"]
