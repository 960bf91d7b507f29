"""From the tensors that a pickle speaks of, and where their storages lie, to a weight file."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod

from jaynes_audit.analyzers.checkpoints.decoding import Decoder
from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.pytorch.decoders import Dequantised, Strided
from jaynes_audit.analyzers.checkpoints.pytorch.machine import about_unknown
from jaynes_audit.analyzers.checkpoints.pytorch.naming import Found
from jaynes_audit.analyzers.checkpoints.pytorch.objects import Global, Quantiser, Storage, Unreadable, View
from jaynes_audit.analyzers.checkpoints.pytorch.sharing import Extent, Shares, shares_of
from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted
from jaynes_audit.analyzers.checkpoints.tensor import Defect, Tensor, WeightFile
from jaynes_audit.analyzers.dtypes import BITS, COMPLEX, Dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """How the storages of a file lie in it.

    `place` tells where the bytes stored under a storage's key begin, after a check that they are as many as declared.
    """

    file: Place
    place: Callable[[Storage], int]
    is_big_endian: bool = False


def weight_file(
    found: Found[View | Unreadable], stored: Stored, *, defects: Sequence[Defect], remarks: Sequence[str] = ()
) -> WeightFile:
    """The tensors that can be audited, each byte once; the others as aliases, as undecoded, or in a remark.

    Raises:
        RefusedFile: as `stored.place` does.
    """
    sorting = _Sorting(stored, found)
    aliases, notes = sorting.shared()
    gone = sorting.passed_over
    return WeightFile(
        file=stored.file,
        tensors=tuple(tensor for order, tensor in sorting.tensors.items() if order not in gone),
        aliases=aliases,
        undecoded=sorting.undecoded,
        defects=tuple(defects),
        remarks=(*remarks, *found.remarks, *notes, *sorting.remarks()),
        is_pickle=True,
    )


def unknown_globals(unknown: Iterable[Global], file: Place) -> tuple[Defect, ...]:
    """The finding about globals that no checkpoint needs: at most one for a file."""
    names = tuple(unknown)
    if not names:
        return ()
    return (Defect(rule="JN020", case="unknown-global", file=str(file), sentence=about_unknown(names)),)


class _Sorting:
    """The tensors of a file as they are sorted out, by the order of their names."""

    def __init__(self, stored: Stored, found: Found[View | Unreadable]) -> None:
        self.tensors: dict[int, Tensor] = {}
        self.undecoded: dict[str, str] = {}
        self.passed_over: set[int] = set()
        self._stored = stored
        self._order_of: dict[int, int] = {}  # of a view that was met before, by its identity
        self._copies: dict[str, int] = {}
        self._views: defaultdict[str, list[tuple[int, View]]] = defaultdict(list)
        self._noted: defaultdict[str, list[str]] = defaultdict(list)
        for order, named in enumerate(found.tensors):
            match named.tensor:
                case Unreadable(reason):
                    self.undecoded[named.name] = reason
                case View() as view if id(view) in self._order_of:
                    self._copies[named.name] = self._order_of[id(view)]
                case View() as view:
                    self._sort(order, named.name, view)

    def _sort(self, order: int, name: str, found: View) -> None:
        """Make the tensor of a view, or note why there is none."""
        view = found
        dtype, size = view.element.dtype, view.element.size
        if dtype is None:
            self.undecoded[name] = f"it is stored as {view.element.name}: {view.element.reason}"
            return
        if view.note:
            self._noted[view.note].append(name)
        base = self._stored.place(view.storage) + view.storage.base
        if 0 in view.shape:
            shape = _doubled(view.shape) if dtype is Dtype.F4 else view.shape
            self.tensors[order] = Tensor(
                name=name, dtype=dtype, shape=shape, file=self._stored.file, start=base, end=base
            )
            return
        if 0 in view.strides and not view.quantiser:
            shape = tuple(length if stride else 1 for length, stride in zip(view.shape, view.strides, strict=True))
            if shape != view.shape:
                self._noted["expanded"].append(name)
                view = replace(view, shape=shape)
        is_contiguous = _is_contiguous(view)
        if not is_contiguous and _repeats(view):
            self.undecoded[name] = "its strides use some of its bytes several times"
            return
        start = base + view.offset * size
        tensor = _tensor(name, view, dtype, start, stored=self._stored, is_contiguous=is_contiguous)
        if isinstance(tensor, Unreadable):
            self.undecoded[name] = tensor.reason
            return
        self.tensors[order] = tensor
        self._order_of[id(found)] = order
        self._views[view.storage.key].append((order, view))

    def shared(self) -> tuple[dict[str, str], tuple[str, ...]]:
        """The tensors that are other tensors' bytes: aliases, and a remark on those that are only part of another.

        Those of which another has some bytes, or may have, become undecoded.
        """
        whole = Shares()
        for views in self._views.values():
            if len(views) > 1:
                shares = shares_of([_extent(order, view) for order, view in views])
                whole.same.update(shares.same)
                whole.inside.update(shares.inside)
                whole.across.update(shares.across)
        self.passed_over |= whole.same.keys() | whole.inside.keys() | whole.across.keys()
        # What a view is the same as may be passed over itself, or be the same as a third.
        same = {self.tensors[order].name: whole.same.get(first, first) for order, first in whole.same.items()}
        same |= {name: whole.same.get(first, first) for name, first in self._copies.items()}
        across = {self.tensors[order].name: kept for order, kept in whole.across.items()}
        across |= {name: whole.across[first] for name, first in same.items() if first in whole.across}
        for name, kept in across.items():
            self.undecoded[name] = f"it may share a part of its bytes with {quoted(self.tensors[kept].name)}"
        aliases = {name: self.tensors[first].name for name, first in same.items() if first not in self.passed_over}
        inside = [self.tensors[order].name for order in whole.inside]
        inside += [name for name, first in same.items() if first in whole.inside]
        fate = "inside the bytes of another tensor, and counted there"
        return aliases, (f"{_count(inside)} {fate}: {listed(inside)}",) if inside else ()

    def remarks(self) -> tuple[str, ...]:
        """What readers should know of tensors that are not audited in full or not in the shape they had."""
        return tuple(f"{_count(names)} {_NOTES[note]}: {listed(names)}" for note, names in self._noted.items())


_NOTES = {
    "sparse": "stored sparse, and only the values that are stored are audited, not the zeros between them",
    "nested": "made of several of different shapes, and audited as one row of numbers",
    "expanded": "stored once and repeated along an axis, and audited once",
}


def _count(names: Sequence[str]) -> str:
    return "1 tensor is" if len(names) == 1 else f"{len(names):,} tensors are"


def _repeats(view: View) -> bool:
    """Whether an element could stand for several indices: when an axis does not step over all that is inside it."""
    reach = 0
    for stride, size in sorted(
        (stride, size) for stride, size in zip(view.strides, view.shape, strict=True) if size > 1
    ):
        if stride <= reach:
            return True
        reach += (size - 1) * stride
    return False


def _is_contiguous(view: View) -> bool:
    expected = 1
    for size, stride in zip(reversed(view.shape), reversed(view.strides), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def _tensor(
    name: str, view: View, dtype: Dtype, start: int, *, stored: Stored, is_contiguous: bool
) -> Tensor | Unreadable:
    """The tensor: as plain bytes where it is stored so."""
    is_plain = (
        is_contiguous
        and not (stored.is_big_endian and _word_bytes(view.storage) > 1)
        and not (view.conjugated or view.negated)
    )
    end = start + prod(view.shape) * view.element.size
    decoder: Decoder | None = None
    shape = view.shape
    if view.quantiser:
        decoder, dtype = _dequantised(view.quantiser, _strided(view, dtype, start, stored), stored), Dtype.F32
    elif dtype is Dtype.F4:
        if not is_plain:
            return Unreadable(f"it is a view of {view.element.name}, of which two share a byte")
        shape = _doubled(shape)
    elif not is_plain:
        decoder = _strided(view, dtype, start, stored)
    return Tensor(name=name, dtype=dtype, shape=shape, file=stored.file, start=start, end=end, decoder=decoder)


def _doubled(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a tensor whose elements are two to a byte, when `shape` counts bytes."""
    return (*shape[:-1], 2 * shape[-1]) if shape else (2,)


def _strided(view: View, dtype: Dtype, start: int, stored: Stored) -> Strided:
    return Strided(
        file=stored.file,
        dtype=dtype,
        shape=view.shape,
        start=start,
        strides=tuple(stride * view.element.size for stride in view.strides),
        word_bytes=_word_bytes(view.storage) if stored.is_big_endian else 0,
        negated=_negated(view, dtype),
    )


def _word_bytes(storage: Storage) -> int:
    """What torch swaps the bytes in. It knows a storage's dtype only: of an untyped one it swaps none."""
    dtype = storage.element.dtype
    return BITS[COMPLEX.get(dtype, dtype)] // 8 if dtype else 0


def _negated(view: View, dtype: Dtype) -> tuple[int, ...]:
    """The words of a number whose sign is turned: negating turns all of them, conjugating the imaginary one."""
    if dtype not in COMPLEX:
        return (0,) if view.negated else ()
    if view.negated:
        return (0,) if view.conjugated else (0, 1)
    return (1,) if view.conjugated else ()


def _dequantised(quantiser: Quantiser, codes: Strided, stored: Stored) -> Dequantised:
    scales, zero_points = quantiser.scales, quantiser.zero_points
    return Dequantised(
        codes=codes,
        scales=_parameters(scales, stored) if isinstance(scales, View) else scales,
        zero_points=_parameters(zero_points, stored) if isinstance(zero_points, View) else zero_points,
        axis=quantiser.axis,
    )


def _parameters(view: View, stored: Stored) -> Strided:
    """The scales or the zero points of all channels."""
    start = stored.place(view.storage) + view.storage.base + view.offset * view.element.size
    return _strided(view, view.element.dtype or Dtype.F32, start, stored)


def _extent(order: int, view: View) -> Extent:
    """The bytes that a view means, counted from the first that is stored under its storage's key."""
    size = view.element.size
    axes = [(length, stride * size) for length, stride in zip(view.shape, view.strides, strict=True) if length > 1]
    if size > 1:
        axes.append((size, 1))
    return Extent(order=order, start=view.storage.base + view.offset * size, axes=tuple(axes))
