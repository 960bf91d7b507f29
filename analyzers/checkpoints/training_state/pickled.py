"""What trainers pickle, read without running any of it: the plain data of PyTorch's zip files, and their tensors."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

from jaynes_audit.analyzers.checkpoints.foreign import PROBE, refuse_foreign
from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.pytorch.assembly import Stored, weight_file
from jaynes_audit.analyzers.checkpoints.pytorch.legacy import looks_like_pytorch_legacy
from jaynes_audit.analyzers.checkpoints.pytorch.machine import about_unknown
from jaynes_audit.analyzers.checkpoints.pytorch.naming import Found, Named
from jaynes_audit.analyzers.checkpoints.pytorch.objects import Unreadable, View
from jaynes_audit.analyzers.checkpoints.pytorch.zip_file import looks_like_pytorch_zip, pickled_in_zip
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.checkpoints.reading import opened
from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from jaynes_audit.analyzers.checkpoints.training_state.told import number
from jaynes_audit.analyzers.dtypes import BITS, NUMPY_DTYPES, Dtype, stored_codes, values
from jaynes_audit.analyzers.errors import RefusedFile

BITS_PER_BYTE = 8
MOST_NUMBERS_FROM_AFAR = 1_000  # that are read one by one, when each costs a request


class Leaves:
    """The tensors of an opened file, and the numbers that were saved as tensors of one element.

    `stored` tells where the storages of a pickle lie; without it, tensors are given as such.
    """

    def __init__(self, stream: BinaryIO, file: Place, stored: Stored | None = None) -> None:
        self._stream = stream
        self._stored = stored
        self._left = None if isinstance(file, Path) or not file.is_streamed else MOST_NUMBERS_FROM_AFAR

    def tensors(self, found: Sequence[object]) -> list[Tensor | None]:
        """For each value the tensor that it is; None where it is none, or none whose numbers can be read.

        Raises:
            RefusedFile: JN004 or JN009 when a storage has not the bytes that it should have.
        """
        if self._stored is None:
            return [value if isinstance(value, Tensor) else None for value in found]
        named = [Named(str(at), value) for at, value in enumerate(found) if isinstance(value, View | Unreadable)]
        weights = weight_file(Found(tuple(named)), self._stored, defects=())
        tensors = {tensor.name: tensor for tensor in weights.tensors}
        names = [weights.aliases.get(str(at), str(at)) for at in range(len(found))]
        return [tensors.get(name) for name in names]

    def number(self, value: object) -> float | None:
        """The finite number that a value is, or the only element of the tensor that it is; None where it is neither."""
        if not isinstance(value, View | Tensor):
            return number(value)
        [tensor] = self.tensors([value])
        if tensor is None or tensor.decoder or prod(tensor.shape) != 1 or not _is_real(tensor.dtype):
            return None
        if self._left is not None:
            if not self._left:
                return None
            self._left -= 1
        self._stream.seek(tensor.start)
        content = self._stream.read(BITS[tensor.dtype] // BITS_PER_BYTE)
        if len(content) * BITS_PER_BYTE < BITS[tensor.dtype]:
            return None
        [found] = values(stored_codes(memoryview(content), tensor.dtype), tensor.dtype).tolist()
        return number(found)


def _is_real(dtype: Dtype) -> bool:
    return dtype is Dtype.BF16 or (dtype in NUMPY_DTYPES and NUMPY_DTYPES[dtype].kind in "uif")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pickled:
    """The object that a file holds, with what its tensors are. `remarks` tell of globals that no trainer needs."""

    root: object
    leaves: Leaves
    remarks: tuple[str, ...]


@contextmanager
def unpickled(path: Place) -> Iterator[Pickled]:
    """The object that is pickled in one of PyTorch's zip files; its numbers can be read while the context lasts.

    Raises:
        RefusedFile: as `read_pytorch_zip` does, and JN022 for files from before torch 1.6.
        CouldNotRead: when the machine does not let it be read.
    """
    with opened(path) as (stream, size):
        head = stream.read(PROBE)
        if not looks_like_pytorch_zip(head, size):
            raise _no_zip(head, size)
        held = pickled_in_zip(stream, path, size)
        unknown = (f"{quoted(path.name)}: {about_unknown(held.unknown)}",) if held.unknown else ()
        yield Pickled(root=held.root, leaves=Leaves(stream, path, held.stored), remarks=unknown)


def _no_zip(head: bytes, size: int) -> RefusedFile:
    if looks_like_pytorch_legacy(head, size):
        return RefusedFile(
            "it is a pickle of torch before 1.6, of which only weights are read; load it with a torch that you can "
            "afford to run it in, and save it again",
            rule="JN022",
            case="legacy-optimizer",
        )
    refuse_foreign(head)
    return RefusedFile("it is no file of PyTorch's; fetch it again", rule="JN002", case="unknown-bytes")
