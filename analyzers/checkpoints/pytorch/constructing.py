"""What a pickle's calls make: tensors out of storages, and inert records out of everything else.

Each maker below does with checked arguments what the function of its name in `torch/_utils.py` (2.13) does, as far as
it says which bytes are which tensor. Nothing is copied on the pickle's word: no call costs more than it is long.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from jaynes_audit.analyzers.checkpoints.pytorch.known_globals import (
    ELEMENTS,
    KNOWN,
    QUANTISERS_OF_ALL,
    QUANTISERS_OF_CHANNELS,
    STORAGES,
)
from jaynes_audit.analyzers.checkpoints.pytorch.objects import (
    Element,
    Global,
    Quantiser,
    Record,
    Storage,
    Unreadable,
    View,
    bad_layout,
    kind_of,
    unsafe,
)
from jaynes_audit.analyzers.dtypes import COMPLEX, Dtype

LARGEST_RANK = 64  # as torch and NumPy have it
LONGEST_KEY = 255  # characters of a storage's name; torch counts them
LARGEST_NUMBER = (1 << 63) - 1  # sizes, strides and offsets are int64
# Where arguments stand: first the storage, the offset, the size and the stride, then what differs.
VIEW_ARGUMENTS = 4
QUANTISER = 4
V2_METADATA = 6
V3_DTYPE = 6
V3_METADATA = 7
COMPRESSED_LAYOUTS = frozenset({"torch.sparse_csr", "torch.sparse_csc", "torch.sparse_bsr", "torch.sparse_bsc"})
SIGNED = frozenset({Dtype.F16, Dtype.BF16, Dtype.F32, Dtype.F64, *COMPLEX})  # what torch sets lazy signs of
SCALE_DTYPES = frozenset({Dtype.F32, Dtype.F64})
ZERO_POINT_DTYPES = frozenset({Dtype.I32, Dtype.I64, Dtype.F32})
LARGEST_ZERO_POINT = (1 << 31) - 1

Arguments = tuple[object, ...]


def is_known(name: Global) -> bool:
    """Whether honest checkpoints name this global."""
    return name in KNOWN


def constructed(callee: Global | Record, arguments: Arguments) -> object:
    """What calling `callee` would give: a tensor or plain data where that is known, and otherwise a record of the call.

    Raises:
        RefusedFile: JN020 when the arguments are not those that torch writes, JN004 when a tensor leaves its storage.
    """
    maker = _MAKERS.get(callee) if isinstance(callee, Global) else None
    return maker(arguments) if maker else Record(callee, arguments)


def built(target: object, state: object) -> object:
    """The target with a state set on it. Tensors and dicts keep their contents; what else is set on them is dropped.

    Raises:
        RefusedFile: JN020 when the target is nothing that could have a state.
    """
    match target:
        case Record():
            target.state = state if target.state is None else (target.state, state)
        case dict() | View() | Unreadable():
            pass
        case _:
            raise unsafe(f"sets the state of {kind_of(target)}", "state-of-data")
    return target


def storage_of(persistent_id: object, folder: str) -> Storage | Record:
    """The storage that a persistent id names; for a class with its source code, as old files have it, the class.

    Raises:
        RefusedFile: JN020 when it is neither.
    """
    match persistent_id:
        case ("storage", Global() as kind, str(key), _, int(count), *more) if (
            len(more) <= 1 and count >= 0 and len(key) <= LONGEST_KEY
        ):
            element = STORAGES.get(kind)
            if element is None or isinstance(count, bool) or count > LARGEST_NUMBER:
                raise unsafe(f"has a storage of {kind_of(kind)}", "odd-storage")
            base, size = _part(more[0] if more else None, count)
            return Storage(
                element=element,
                key=folder + key,
                stored_size=count * element.size,
                base=base * element.size,
                size=size * element.size,
            )
        case ("module", Global() as kind, _, _):
            return Record(kind, ())
        case _:
            raise unsafe("has a persistent id that names no storage", "odd-persistent-id")


def _part(view: object, count: int) -> tuple[int, int]:
    """Offset and length, in elements, of the part of a storage that torch before 0.4 could name."""
    match view:
        case None:
            return 0, count
        case (_, int(offset), int(length)) if 0 <= offset <= offset + length <= count and length >= 0:
            return offset, length
        case _:
            raise bad_layout("names a part of a storage that lies outside it", "storage-part-outside")


# ---- tensors


def _tensor(arguments: Arguments, *, element: Element | None = None, metadata: object = None) -> View:
    """The view that a storage, an offset, a size and a stride stand for, every element of it inside the storage."""
    if len(arguments) < VIEW_ARGUMENTS:
        raise unsafe("makes a tensor from too few arguments", "odd-tensor")
    storage, offset, shape, strides = arguments[:VIEW_ARGUMENTS]
    if not isinstance(storage, Storage):
        raise unsafe(f"makes a tensor from {kind_of(storage)} in place of a storage", "odd-tensor")
    element = element or storage.element
    conjugated, negated = _lazy_bits(metadata)
    if negated and element.dtype not in SIGNED:
        raise unsafe(f"has a tensor of {element.name} with its sign turned", "odd-tensor")
    view = View(
        storage,
        element,
        _count(offset),
        _counts(shape),
        _counts(strides),
        conjugated=conjugated,
        negated=negated,
    )
    _refuse_outside(view)
    return view


def _argument(arguments: Arguments, place: int) -> object:
    return arguments[place] if len(arguments) > place else None


def _lazy_bits(metadata: object) -> tuple[bool, bool]:
    """Whether a tensor is conjugated, and whether it is negated: what `torch._utils.set_tensor_metadata` sets."""
    if not isinstance(metadata, dict):
        return False, False
    return metadata.get("conj") is True, metadata.get("neg") is True


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value <= LARGEST_NUMBER:
        raise bad_layout(f"has {kind_of(value)} that can be no size, stride or offset", "odd-size")
    return value


def _counts(values: object) -> tuple[int, ...]:
    if not isinstance(values, tuple | list):
        raise bad_layout(f"has {kind_of(values)} for a size or a stride", "odd-size")
    if len(values) > LARGEST_RANK:
        raise bad_layout(f"has a tensor of {len(values):,} dimensions", "rank-too-large")
    for value in values:
        _count(value)
    return tuple(values)  # a tuple is not copied: the same one can stand in many tensors


def _refuse_outside(view: View) -> None:
    if len(view.shape) != len(view.strides):
        raise bad_layout("has a tensor with more sizes than strides, or fewer", "odd-size")
    if 0 in view.shape:
        return
    last = view.offset + sum((size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True))
    if (last + 1) * view.element.size > view.storage.size:
        raise bad_layout(
            f"has a tensor that ends {(last + 1) * view.element.size:,} bytes into a storage of {view.storage.size:,}",
            "view-outside-storage",
        )


def _tensor_v2(arguments: Arguments) -> View:
    return _tensor(arguments, metadata=_argument(arguments, V2_METADATA))


def _tensor_v3(arguments: Arguments) -> View:
    kind = _argument(arguments, V3_DTYPE)
    element = ELEMENTS.get(kind) if isinstance(kind, Global) else None
    if element is None:
        raise unsafe(f"has {kind_of(kind)} for a tensor's dtype", "odd-tensor")
    return _tensor(arguments, element=element, metadata=_argument(arguments, V3_METADATA))


def _quantised(arguments: Arguments) -> View:
    view = _tensor(arguments)
    parameters = _argument(arguments, QUANTISER)
    if not isinstance(parameters, tuple) or not parameters or not view.element.quantised:
        raise unsafe("makes a quantised tensor of something else", "odd-quantiser")
    return replace(view, quantiser=_quantiser(parameters, view.shape))


def _quantiser(parameters: Arguments, shape: Sequence[int]) -> Quantiser:
    match parameters:
        case (Global() as scheme, float(scale), int(zero_point)) if (
            scheme in QUANTISERS_OF_ALL and abs(zero_point) <= LARGEST_ZERO_POINT
        ):
            return Quantiser(scale, zero_point)
        case (Global() as scheme, View() as scales, View() as zero_points, int(axis)) if (
            scheme in QUANTISERS_OF_CHANNELS and 0 <= axis < len(shape)
        ):
            if not scales.shape == zero_points.shape == (shape[axis],):
                raise bad_layout("has a quantised tensor without a scale for each channel", "scales-and-channels")
            if scales.element.dtype not in SCALE_DTYPES or zero_points.element.dtype not in ZERO_POINT_DTYPES:
                raise unsafe("has a quantised tensor with scales of an odd dtype", "odd-quantiser")
            return Quantiser(scales, zero_points, axis)
        case _:
            raise unsafe("has a quantised tensor whose scales are not as torch writes them", "odd-quantiser")


def _sparse(arguments: Arguments) -> View:
    match arguments:
        case (Record(arguments=("torch.sparse_coo",)), (_, View() as values, _, *_)):
            return replace(values, note="sparse")
        case (Record(arguments=(str(layout),)), (_, _, View() as values, _)) if layout in COMPRESSED_LAYOUTS:
            return replace(values, note="sparse")
        case _:
            raise unsafe("has a sparse tensor that is not as torch writes it", "odd-sparse-tensor")


def _nested(arguments: Arguments) -> View:
    if not arguments or not isinstance(arguments[0], View):
        raise unsafe("has a nested tensor that is not as torch writes it", "odd-nested-tensor")
    return replace(arguments[0], note="nested")


def _jagged(arguments: Arguments) -> View:
    state = arguments[0] if arguments else None
    return _nested((state.get("values"),) if isinstance(state, dict) else ())


def _inner(arguments: Arguments) -> object:
    """A parameter, a buffer, or a tensor that stood on a device: the tensor itself."""
    return arguments[0] if arguments else Record(Global("torch.nn.parameter", "Parameter"), ())


def _from_type(arguments: Arguments) -> object:
    """A tensor of a class of its own: the tensor, or the tensors in its state where it is only a wrapper of them."""
    match arguments:
        case (Global(name="_rebuild_from_type" | "_rebuild_from_type_v2"), *_):
            raise unsafe("has a tensor of a class of a class", "odd-tensor")
        case (Global() as maker, kind, tuple(inner), state):
            made = constructed(maker, inner)
            if isinstance(made, View):
                return made
            return Record(kind, made, state)
        case _:
            raise unsafe("has a tensor of a class, not as torch writes it", "odd-tensor")


def _meta(arguments: Arguments) -> Unreadable:
    del arguments
    return Unreadable("it was saved from the meta device, without its numbers")


def _wrapper(arguments: Arguments) -> Unreadable:
    del arguments
    return Unreadable("it is a wrapper that was saved without its numbers")


def _from_numpy(arguments: Arguments) -> Unreadable:
    del arguments
    return Unreadable("it was saved as a NumPy array inside the pickle, as torch before 2.6 did for some devices")


def _itself(arguments: Arguments) -> object:
    """What a size, a set or a typed list is made of; the container is of no account."""
    return arguments[0] if arguments else []


def _ordered(arguments: Arguments) -> object:
    return Record(Global("collections", "OrderedDict"), arguments) if arguments else {}


def _default(arguments: Arguments) -> object:
    return _ordered(arguments[1:])


_MAKERS: dict[Global, Callable[[Arguments], object]] = {
    Global("torch._utils", "_rebuild_tensor"): _tensor,
    Global("torch._utils", "_rebuild_tensor_v2"): _tensor_v2,
    Global("torch._utils", "_rebuild_tensor_v3"): _tensor_v3,
    Global("torch._utils", "_rebuild_parameter"): _inner,
    Global("torch._utils", "_rebuild_parameter_with_state"): _inner,
    Global("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"): _inner,
    Global("torch._utils", "_rebuild_qtensor"): _quantised,
    Global("torch._utils", "_rebuild_sparse_tensor"): _sparse,
    Global("torch._utils", "_rebuild_sparse_csr_tensor"): _sparse,
    Global("torch._utils", "_rebuild_nested_tensor"): _nested,
    Global("torch._utils", "_rebuild_meta_tensor_no_storage"): _meta,
    Global("torch._utils", "_rebuild_wrapper_subclass"): _wrapper,
    Global("torch._utils", "_rebuild_device_tensor_from_numpy"): _from_numpy,
    Global("torch._utils", "_rebuild_xla_tensor"): _from_numpy,
    Global("torch._tensor", "_rebuild_from_type"): _from_type,
    Global("torch._tensor", "_rebuild_from_type_v2"): _from_type,
    Global("torch.tensor", "_rebuild_from_type"): _from_type,
    Global("torch.tensor", "_rebuild_from_type_v2"): _from_type,
    Global("torch.nested._internal.nested_tensor", "_rebuild_njt"): _jagged,
    Global("torch.nn.parameter", "Parameter"): _inner,
    Global("torch.nn.parameter", "Buffer"): _inner,
    Global("torch", "Size"): _itself,
    Global("builtins", "set"): _itself,
    Global("builtins", "frozenset"): _itself,
    Global("torch.jit._pickle", "build_intlist"): _itself,
    Global("torch.jit._pickle", "build_tensorlist"): _itself,
    Global("torch.jit._pickle", "build_doublelist"): _itself,
    Global("torch.jit._pickle", "build_boollist"): _itself,
    Global("torch.jit._pickle", "restore_type_tag"): _itself,
    Global("collections", "OrderedDict"): _ordered,
    Global("collections", "Counter"): _ordered,
    Global("collections", "defaultdict"): _default,
}
