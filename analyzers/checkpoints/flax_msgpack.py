"""Flax's files: one MessagePack map of maps, with arrays as extension type 1, as `flax.serialization` writes them.

The map is walked from its first byte to its last without being built as Python objects; arrays are stepped over, so
that their numbers stay in the file and are read in place. An array above 1 GiB is stored in chunks, which are joined on
the way. Sources: the MessagePack specification, and `flax/serialization.py` at 0.12.

Flax stores a linear layer as (inputs, outputs) and a convolution as (height, width, inputs, outputs).
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from io import BytesIO
from math import prod
from typing import BinaryIO, NamedTuple

from jaynes_audit.analyzers.checkpoints.decoding import Decoded, Read, Scheme
from jaynes_audit.analyzers.checkpoints.places import Place, Span
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.checkpoints.tensor import Tensor, WeightFile
from jaynes_audit.analyzers.dtypes import BITS, Dtype, stored_codes
from jaynes_audit.analyzers.errors import RefusedFile

DTYPES: dict[str, Dtype] = {
    "bool": Dtype.BOOL,
    "uint8": Dtype.U8,
    "uint16": Dtype.U16,
    "uint32": Dtype.U32,
    "uint64": Dtype.U64,
    "int8": Dtype.I8,
    "int16": Dtype.I16,
    "int32": Dtype.I32,
    "int64": Dtype.I64,
    "float16": Dtype.F16,
    "bfloat16": Dtype.BF16,
    "float32": Dtype.F32,
    "float64": Dtype.F64,
    "complex64": Dtype.C64,
    "complex128": Dtype.C128,
    "float8_e4m3fn": Dtype.F8_E4M3,
    "float8_e5m2": Dtype.F8_E5M2,
    "float8_e4m3fnuz": Dtype.F8_E4M3FNUZ,
    "float8_e5m2fnuz": Dtype.F8_E5M2FNUZ,
    "float8_e8m0fnu": Dtype.F8_E8M0,
}
"""By the name that NumPy and ml_dtypes give them. What is missing here (int4, float4) they keep in a byte each."""

ARRAY, SCALAR = 1, 3  # extension types; 2 is a complex number of Python's own
PARTS = 3  # of an array: its shape, the name of its dtype, its bytes
CHUNKED = "__msgpack_chunked_array__"
WEIGHTS, OPTIMIZER = "params", "opt_state"  # in a flax.training.TrainState

DEEPEST = 64  # maps within maps; networks have ten or so
MOST_VALUES = 250_000  # several times the arrays of the largest checkpoints; each takes some 200 bytes of memory
LONGEST_KEY = 10_000  # bytes
LONGEST_NAME = 1_000  # characters, of all keys on the way to an array
MOST_CHARACTERS = 1 << 24  # of all names together: 100,000 arrays with names of 160
LONGEST_DTYPE = 100  # bytes
LARGEST_RANK = 64  # NumPy's own limit
LARGEST_DIMENSION = (1 << 63) - 1
FETCH_AGAIN = "fetch the file again"
WRITE_AGAIN = "save it again with flax.serialization"


class Kind(Enum):
    """What a value of MessagePack is, as far as it matters here."""

    MAP = auto()
    LIST = auto()
    TEXT = auto()
    BYTES = auto()
    EXTENSION = auto()
    INTEGER = auto()
    OTHER = auto()


class _Form(NamedTuple):
    """A form of value: how many bytes tell its length (an integer's value); where none do, what it is."""

    kind: Kind
    width: int = 0
    length: int = 0
    signed: bool = False


_FORMS: dict[int, _Form] = {
    **{number % 0x100: _Form(Kind.INTEGER, length=number) for number in range(-0x20, 0x80)},
    **{0x80 + length: _Form(Kind.MAP, length=length) for length in range(0x10)},
    **{0x90 + length: _Form(Kind.LIST, length=length) for length in range(0x10)},
    **{0xA0 + length: _Form(Kind.TEXT, length=length) for length in range(0x20)},
    **{0xC0 + plain: _Form(Kind.OTHER) for plain in (0, 2, 3)},  # nil, false, true
    **{0xC4 + power: _Form(Kind.BYTES, width=1 << power) for power in range(3)},
    **{0xC7 + power: _Form(Kind.EXTENSION, width=1 << power) for power in range(3)},
    **{0xCA + power: _Form(Kind.OTHER, length=4 << power) for power in range(2)},  # floats
    **{0xCC + power: _Form(Kind.INTEGER, width=1 << power) for power in range(4)},
    **{0xD0 + power: _Form(Kind.INTEGER, width=1 << power, signed=True) for power in range(4)},
    **{0xD4 + power: _Form(Kind.EXTENSION, length=1 << power) for power in range(5)},
    **{0xD9 + power: _Form(Kind.TEXT, width=1 << power) for power in range(3)},
    **{0xDC + power: _Form(Kind.LIST, width=2 << power) for power in range(2)},
    **{0xDE + power: _Form(Kind.MAP, width=2 << power) for power in range(2)},
}
"""By the first byte of a value; 0xC1 begins none."""


class Array(NamedTuple):
    """An array where it stands: its pieces of the file, from a first byte to a last, one after the other.

    `dtype` is NumPy's name for its numbers.
    """

    dtype: str
    shape: tuple[int, ...]
    places: tuple[tuple[int, int], ...]


class Branch(NamedTuple):
    """A map, or a list as a map from "0", "1" and so on. Values that are no numbers are None."""

    items: Mapping[str, "Branch | Array | int | None"]


Node = Branch | Array | int | None


def looks_like_flax(head: bytes, size: int) -> bool:
    """Whether the first bytes begin a map with an array of Flax's in it before anything that Flax does not write."""
    walk = _Walk(BytesIO(head), size)
    with suppress(RefusedFile):  # at the latest where `head` ends
        walk.whole()
    return walk.arrays > 0


def read_flax(stream: BinaryIO, file: Place, size: int) -> WeightFile:
    """The arrays of an opened file of Flax's. A name is the keys on the way to an array, joined by dots.

    The optimizer's arrays in a TrainState are passed over.

    Raises:
        RefusedFile: JN001 when the file ends before or after its map does, JN003 when it is not the MessagePack that
            Flax writes, JN004 when an array has not the bytes that its shape asks for.
        CouldNotRead: as the stream does.
    """
    tree = dict(_Walk(stream, size).whole().items)
    optimizer = tree.pop(OPTIMIZER, None) if WEIGHTS in tree else None
    passed_over = sum(1 for _ in _arrays(optimizer, ""))
    remarks = (f"{passed_over:,} arrays of the optimizer, under {OPTIMIZER}, were passed over",) if passed_over else ()
    tensors: dict[str, Tensor] = {}
    undecoded: dict[str, str] = {}
    characters = 0
    for name, array in _arrays(Branch(tree), ""):
        characters += len(name)
        if characters > MOST_CHARACTERS:
            raise _bad(f"has arrays whose names have more than {MOST_CHARACTERS:,} characters", "flax-name-too-long")
        if name in tensors or name in undecoded:
            raise _bad(f"has two arrays whose keys spell {quoted(name)}", "flax-duplicate-name")
        if array.dtype in DTYPES:
            tensors[name] = _tensor(array, name, file)
        else:
            undecoded[name] = f"its numbers have the format {quoted(array.dtype)}, which is not read"
    return WeightFile(file=file, tensors=tuple(tensors.values()), undecoded=undecoded, remarks=remarks)


def _arrays(node: Node, name: str) -> Iterator[tuple[str, Array]]:
    if len(name) > LONGEST_NAME:  # names are made of the same keys over and over, and would outgrow the file
        raise _bad(f"has keys that make a name of more than {LONGEST_NAME:,} characters", "flax-name-too-long")
    match node:
        case Array():
            yield name, node
        case Branch(items=items):
            for key, inner in items.items():
                yield from _arrays(inner, f"{name}.{key}" if name else key)


def _tensor(array: Array, name: str, file: Place) -> Tensor:
    dtype = DTYPES[array.dtype]
    needed, held = prod(array.shape) * BITS[dtype] // 8, sum(end - start for start, end in array.places)
    if any((end - start) % (BITS[dtype] // 8) for start, end in array.places):
        raise _bad(f"has an array {quoted(name)} in pieces that end within a number", "flax-chunks")
    if needed != held:
        raise RefusedFile(
            f"array {quoted(name)} needs {needed:,} bytes for its shape and has {held:,}; {WRITE_AGAIN}",
            rule="JN004",
            case="flax-size-mismatch",
        )
    (start, end), *more = array.places
    decoder = Chunks(file=file, dtype=dtype, places=array.places) if more else None
    return Tensor(name=name, dtype=dtype, shape=array.shape, file=file, start=start, end=end, decoder=decoder)


# ---- MessagePack


class _Walk:
    """A walk over a file of `size` bytes. `arrays` counts those that were met."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.arrays = 0
        self._stream = stream
        self._size = size
        self._at = 0
        self._values = 0

    def whole(self) -> Branch:
        """The file's only value, a map."""
        kind, length = self._head()
        if kind is not Kind.MAP:
            raise _bad("does not begin with a map", "flax-no-map")
        top = self._map(length, depth=1)
        if self._at != self._size:
            raise RefusedFile(
                f"{self._size - self._at:,} bytes follow the end of what this Flax file holds and belong to nothing: "
                f"another file may hide there; {WRITE_AGAIN}",
                rule="JN001",
                case="flax-trailing-bytes",
            )
        return Branch({"": top}) if isinstance(top, Array) else top

    def _node(self, depth: int) -> Node:
        self._values += 1
        if self._values > MOST_VALUES:
            raise _bad(f"holds more than {MOST_VALUES:,} values", "flax-too-many-values")
        if depth > DEEPEST:
            raise _bad(f"nests more than {DEEPEST} maps", "flax-too-deep")
        kind, length = self._head()
        match kind:
            case Kind.MAP:
                return self._map(length, depth=depth)
            case Kind.LIST:
                return Branch({str(index): self._node(depth + 1) for index in range(length)})
            case Kind.EXTENSION:
                return self._extension(length)
            case Kind.INTEGER:
                return length
            case _:
                self._skip(length)
                return None

    def _map(self, length: int, *, depth: int) -> Branch | Array:
        items: dict[str, Node] = {}
        for _ in range(length):
            key = self._key()
            if key in items:
                raise _bad(f"has the key {quoted(key)} twice in one map", "flax-duplicate-key")
            items[key] = self._node(depth + 1)
        return _joined(items) if CHUNKED in items else Branch(items)

    def _key(self) -> str:
        kind, length = self._head()
        if kind is Kind.INTEGER:
            return str(length)
        if kind is not Kind.TEXT:
            raise _bad("has a key that is no text", "flax-key")
        return self._text(length, LONGEST_KEY)

    def _text(self, length: int, longest: int) -> str:
        if length > longest:
            raise _bad(f"has a text of {length:,} bytes where {longest:,} are the limit", "flax-text-too-long")
        try:
            return self._take(length).decode()
        except UnicodeDecodeError:
            raise _bad("has a key or another text that is not UTF-8", "flax-not-utf8") from None

    def _extension(self, length: int) -> Array | None:
        kind = self._take(1)[0]
        if kind in {ARRAY, SCALAR}:
            return self._array(self._at + length)
        self._skip(length)
        return None

    def _array(self, end: int) -> Array:
        """What Flax packs of an array: a list of its shape, the name of its dtype, and its bytes up to `end`."""
        parts, rank = self._expected(Kind.LIST), self._expected(Kind.LIST)
        if parts != PARTS or rank > LARGEST_RANK:
            raise _bad("has an array that is not made of a shape, a dtype and its bytes", "flax-array")
        shape = tuple(self._expected(Kind.INTEGER) for _ in range(rank))
        dtype = self._text(self._expected(Kind.TEXT, Kind.BYTES), LONGEST_DTYPE)
        length = self._expected(Kind.BYTES)
        start = self._at
        if start + length != end:
            raise _bad("has an array whose bytes do not end where it does", "flax-array")
        self.arrays += 1
        self._skip(length)
        return Array(dtype, _checked_shape(shape), ((start, end),))

    def _expected(self, *kinds: Kind) -> int:
        kind, length = self._head()
        if kind not in kinds:
            raise _bad("has an array that is not made of a shape, a dtype and its bytes", "flax-array")
        return length

    def _head(self) -> tuple[Kind, int]:
        """The next value's kind, and its length, or its number if it is an integer."""
        byte = self._take(1)[0]
        if byte not in _FORMS:
            fault = f"has the byte 0x{byte:02x} at {self._at - 1:,}, with which nothing begins in MessagePack"
            raise _bad(fault, "flax-byte")
        form = _FORMS[byte]
        if not form.width:
            return form.kind, form.length
        return form.kind, int.from_bytes(self._take(form.width), "big", signed=form.signed)

    def _take(self, length: int) -> bytes:
        self._reach(length)
        content = self._stream.read(length)
        if len(content) < length:
            raise self._cut_off()
        return content

    def _skip(self, length: int) -> None:
        self._reach(length)
        self._stream.seek(self._at)

    def _reach(self, length: int) -> None:
        self._at += length
        if self._at > self._size:
            raise self._cut_off()

    def _cut_off(self) -> RefusedFile:
        return RefusedFile(
            f"this Flax file ends at byte {self._size:,} in the middle of what it holds; {FETCH_AGAIN}",
            rule="JN001",
            case="flax-cut-off",
        )


def _joined(items: Mapping[str, Node]) -> Array:
    """The array whose chunks a map holds, with its shape."""
    match items.get("shape"), items.get("chunks"):
        case Branch(items=sizes), Branch(items=chunks):
            shape = tuple(sizes.get(str(axis)) for axis in range(len(sizes)))
            parts = [chunks.get(str(index)) for index in range(len(chunks))]
        case _:
            shape, parts = (), []
    arrays = [part for part in parts if isinstance(part, Array)]
    lengths = [size for size in shape if isinstance(size, int)]
    if (
        not arrays
        or (len(arrays), len(lengths)) != (len(parts), len(shape))
        or any(array.dtype != arrays[0].dtype for array in arrays)
    ):
        raise _bad("has an array in chunks that do not fit together", "flax-chunks")
    return Array(arrays[0].dtype, _checked_shape(tuple(lengths)), tuple(array.places[0] for array in arrays))


def _checked_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) > LARGEST_RANK or not all(0 <= size <= LARGEST_DIMENSION for size in shape):
        raise _bad("has an array of a shape that no array has", "flax-shape")
    return shape


def _bad(fault: str, case: str) -> RefusedFile:
    return RefusedFile(f"this Flax file {fault}; {WRITE_AGAIN}", rule="JN003", case=case)


# ---- an array in chunks


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunks:
    """An array whose elements stand in several places of a file, one after the other; each holds whole elements."""

    file: Place
    dtype: Dtype
    places: tuple[tuple[int, int], ...]

    @property
    def scheme(self) -> Scheme | None:
        """None: nothing is quantised."""

    @property
    def parts(self) -> tuple[str, ...]:
        """None but the tensor itself."""
        return ()

    def needs(self, first: int, stop: int) -> tuple[Span, ...]:
        """The bytes of the elements, chunk by chunk."""
        width = BITS[self.dtype] // 8
        spans = []
        passed = 0
        for start, end in self.places:
            begin, last = max(start, start + first * width - passed), min(end, start + stop * width - passed)
            if begin < last:
                spans.append(Span(self.file, begin, last))
            passed += end - start
        return tuple(spans)

    def decode(self, read: Read, first: int, stop: int) -> Decoded:
        """Give the elements as they are stored."""
        stored = b"".join(bytes(read(span.file, span.start, span.end)) for span in self.needs(first, stop))
        return Decoded(stored_codes(memoryview(stored), self.dtype))
