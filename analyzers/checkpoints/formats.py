"""The file formats that weights are read from. A new one is a module beside this one and a line in FORMATS."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from jaynes_audit.analyzers.checkpoints.flax_msgpack import looks_like_flax, read_flax
from jaynes_audit.analyzers.checkpoints.foreign import PROBE
from jaynes_audit.analyzers.checkpoints.gguf_file import looks_like_gguf, read_gguf
from jaynes_audit.analyzers.checkpoints.keras_hdf5.archive import looks_like_keras, read_keras
from jaynes_audit.analyzers.checkpoints.keras_hdf5.weights import looks_like_hdf5, read_hdf5
from jaynes_audit.analyzers.checkpoints.numpy_arrays import looks_like_npy, looks_like_npz, read_npy, read_npz
from jaynes_audit.analyzers.checkpoints.onnx_model.graph import looks_like_onnx, read_onnx
from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.pytorch.legacy import looks_like_pytorch_legacy, read_pytorch_legacy
from jaynes_audit.analyzers.checkpoints.pytorch.zip_file import looks_like_pytorch_zip, read_pytorch_zip
from jaynes_audit.analyzers.checkpoints.reading import opened
from jaynes_audit.analyzers.checkpoints.safetensors_header import looks_like_safetensors, read_safetensors
from jaynes_audit.analyzers.checkpoints.tensor import WeightFile
from jaynes_audit.analyzers.checkpoints.tflite_model.bundle import looks_like_task, read_task
from jaynes_audit.analyzers.checkpoints.tflite_model.model import looks_like_tflite, read_tflite


@dataclass(frozen=True, slots=True)
class Format:
    """A file format: how its first bytes look in a file of a given size, and how its tensors are found."""

    name: str
    looks_like: Callable[[bytes, int], bool]
    read: Callable[[BinaryIO, Place, int], WeightFile]


FORMATS: tuple[Format, ...] = (
    Format("safetensors", looks_like_safetensors, read_safetensors),
    Format("GGUF", looks_like_gguf, read_gguf),
    Format("PyTorch", looks_like_pytorch_zip, read_pytorch_zip),
    Format("PyTorch before 1.6", looks_like_pytorch_legacy, read_pytorch_legacy),
    Format("HDF5", looks_like_hdf5, read_hdf5),
    Format("Keras", looks_like_keras, read_keras),
    Format("NumPy array", looks_like_npy, read_npy),
    Format("NumPy archive", looks_like_npz, read_npz),
    Format("TensorFlow Lite", looks_like_tflite, read_tflite),
    Format("MediaPipe task", looks_like_task, read_task),
    Format("ONNX", looks_like_onnx, read_onnx),
    Format("Flax", looks_like_flax, read_flax),
)


def open_weights(path: Place) -> WeightFile:
    """The tensors of one file, whose format is told by its content and never by its name.

    Raises:
        RefusedFile: when the file is not what it claims to be, or is of no format in FORMATS.
        CouldNotRead: when the machine does not let it be read.
    """
    with opened(path) as (stream, size):
        head = stream.read(PROBE)
        stream.seek(0)
        # What no format claims goes to the first: safetensors' refusal tells what such a file is.
        chosen = next((each for each in FORMATS if each.looks_like(head, size)), FORMATS[0])
        return chosen.read(stream, path, size)
