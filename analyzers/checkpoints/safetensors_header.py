"""The safetensors header: from a file's first bytes to its tensors, or to the one sentence that says what is wrong.

A safetensors file is a header length N (unsigned, 64 bits, little-endian), N bytes of JSON, and the tensors' bytes,
which the header's offsets must tile without hole, overlap or rest. Source: the format section of the safetensors
README and `safetensors/src/tensor.rs` at 0.8.0. This parser accepts nothing that safetensors 0.8.0 refuses. It is
stricter where the format forbids what the library lets pass (a key that stands twice, unknown fields, a tensor given
as a list, padding other than spaces, a header that does not begin with `{`) and where NumPy could not hold the shape
(more than 64 dimensions).

Nothing of a file is believed before it is checked, and nothing is allocated on a file's word: memory stays within a
small multiple of the header's own length.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from operator import attrgetter
from typing import BinaryIO

from jaynes_audit.analyzers.checkpoints.foreign import PROBE, refuse_foreign
from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.quoted import quoted, quoted_path
from jaynes_audit.analyzers.checkpoints.safetensors_refusals import (
    BITS_PER_BYTE,
    FETCH_AGAIN,
    FIELDS,
    LARGEST_HEADER,
    LARGEST_RANK,
    LENGTH_FIELD,
    METADATA,
    SMALLEST_HEADER,
    U64_RANGE,
    WRITE_AGAIN,
    beginning_refusal,
    end_refusal,
    length_refusal,
    overflows,
    place_refusal,
    refuse_entry,
    repeated_refusal,
    rest_refusal,
)
from jaynes_audit.analyzers.checkpoints.strict_json import Repeated, kind_of, parse_strictly
from jaynes_audit.analyzers.checkpoints.tensor import Tensor, WeightFile
from jaynes_audit.analyzers.dtypes import BITS, NOT_SAFETENSORS, Dtype
from jaynes_audit.analyzers.errors import CouldNotRead, RefusedFile

_ONLY_INTEGERS = frozenset({int})
_BY_NAME: dict[str, tuple[Dtype, int]] = {
    dtype.value: (dtype, BITS[dtype]) for dtype in Dtype if dtype not in NOT_SAFETENSORS
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a safetensors header says: its tensors in the order it names them, and the writer's own notes."""

    tensors: tuple[Tensor, ...]
    metadata: Mapping[str, str]


def header_length(head: bytes, file_size: int) -> int:
    """The length in bytes of the JSON header, from the file's first bytes.

    Eight bytes suffice for a sound file; with `foreign.PROBE` of them a refusal can say what the file is instead.

    Raises:
        RefusedFile: JN002 when this is another kind of file, JN001 when it is cut off, JN003 when the length is absurd.
    """
    length = int.from_bytes(head[:LENGTH_FIELD], "little")
    if file_size >= LENGTH_FIELD and SMALLEST_HEADER <= length <= min(LARGEST_HEADER, file_size - LENGTH_FIELD):
        return length
    refuse_foreign(head)
    raise length_refusal(length, head, file_size)


def parse_header(raw: bytes, *, file: Place, file_size: int) -> Header:
    """The tensors and the metadata of the header `raw`, which stands at byte 8 of a file of `file_size` bytes.

    Every tensor returned lies wholly inside the file, has the size that its shape and dtype ask for, and shares no
    byte with another.

    Raises:
        RefusedFile: JN003 when the header itself is bad, JN004 when the tensors do not tile the data, JN001 when the
            data ends before or after the place that the header declares.
    """
    entries, text = _entries(raw)
    metadata = _metadata(entries.pop(METADATA, None))
    if "\\u" in text:  # an escape is the only way to write a lone surrogate in valid UTF-8
        _refuse_lone_surrogates(entries, metadata)
    data_start = LENGTH_FIELD + len(raw)
    tensors = tuple(_tensors(entries, file, data_start))
    _refuse_bad_layout(tensors, data_start, file_size)
    return Header(tensors=tensors, metadata=metadata)


def aliases_of(header: Header) -> dict[str, str]:
    """Tied tensors that the writer dropped, each with the tensor it kept.

    `safetensors.torch.save_model` records them in the metadata; an entry counts only when the kept tensor is in the
    file and the dropped one is not, because metadata is free text.
    """
    names = {tensor.name for tensor in header.tensors}
    return {dropped: kept for dropped, kept in header.metadata.items() if kept in names and dropped not in names}


def looks_like_safetensors(head: bytes, file_size: int) -> bool:
    """Whether the first bytes could begin a safetensors file: a header length that fits, and then JSON."""
    length = int.from_bytes(head[:LENGTH_FIELD], "little")
    return head[LENGTH_FIELD:].startswith(b"{") and length <= min(LARGEST_HEADER, file_size - LENGTH_FIELD)


def read_safetensors(stream: BinaryIO, file: Place, file_size: int) -> WeightFile:
    """The tensors of an opened safetensors file. Reads the header and not one byte of the data.

    Raises:
        RefusedFile: as `header_length` and `parse_header` do.
        CouldNotRead: when the file lost bytes while it was being read.
    """
    head = stream.read(PROBE)
    length = header_length(head, file_size)
    raw = head[LENGTH_FIELD : LENGTH_FIELD + length] + stream.read(max(0, LENGTH_FIELD + length - len(head)))
    if len(raw) < length:
        raise CouldNotRead(f"{quoted_path(file)} became shorter while it was read; try again when its writer is done")
    header = parse_header(raw, file=file, file_size=file_size)
    return WeightFile(file=file, tensors=header.tensors, aliases=aliases_of(header))


# ---- the JSON text


def _entries(raw: bytes) -> tuple[dict[str, object], str]:
    """The header's outermost object, and the text it was read from."""
    if raw[:1] != b"{":
        raise beginning_refusal(raw)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusedFile(
            f"the header is not UTF-8: byte {error.start:,} of it is 0x{raw[error.start]:02x}; {FETCH_AGAIN}",
            rule="JN003",
            case="header-not-utf8",
        ) from None
    value, rest = parse_strictly(text, what="header")
    if rest.strip(" "):
        raise rest_refusal(rest.lstrip(" "), at=len(text) - len(rest.lstrip(" ")))
    match value:
        case Repeated(key=key):
            raise repeated_refusal(key, text)
        case dict():
            return value, text
        case _:  # what begins with `{` and parses is an object
            raise AssertionError(kind_of(value))


def _refuse_lone_surrogates(names: Iterable[str], metadata: Mapping[str, str]) -> None:
    for text in (*names, *metadata.keys(), *metadata.values()):
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise RefusedFile(
                f"the header holds the text {quoted(text)} with half of a surrogate pair, which is no character; "
                f"{WRITE_AGAIN}",
                rule="JN003",
                case="lone-surrogate",
            ) from None


def _metadata(value: object) -> dict[str, str]:
    """The `__metadata__` section: text to text. It may be missing or null, as safetensors has it."""
    match value:
        case None:
            return {}
        case Repeated(key=key):
            raise RefusedFile(
                f"{METADATA} has the key {quoted(key)} twice; {WRITE_AGAIN}",
                rule="JN003",
                case="duplicate-metadata-key",
            )
        case dict():
            return {key: _metadata_text(key, item) for key, item in value.items()}
        case _:
            raise RefusedFile(
                f"{METADATA} is {kind_of(value)} and must be an object; {WRITE_AGAIN}",
                rule="JN003",
                case="metadata-not-object",
            )


def _metadata_text(key: str, value: object) -> str:
    match value:
        case str():
            return value
        case dict() | list() | Repeated():
            raise RefusedFile(
                f"{METADATA} nests {kind_of(value)} under {quoted(key)}, and only text may stand there; {WRITE_AGAIN}",
                rule="JN003",
                case="metadata-nested",
            )
        case _:
            raise RefusedFile(
                f"{METADATA} has {kind_of(value)} under {quoted(key)}, which is not text; {WRITE_AGAIN}",
                rule="JN003",
                case="metadata-value-not-string",
            )


# ---- one tensor


def _tensors(entries: Mapping[str, object], file: Place, data_start: int) -> Iterator[Tensor]:
    """Each entry as a tensor.

    The loop only decides whether an entry is sound, in one expression and without a function call per field, because
    a checkpoint may have a hundred thousand tensors; `refuse_entry` then takes its time to say why one is not.
    """
    for name, entry in entries.items():
        try:
            dtype, bits = _BY_NAME[entry["dtype"]]  # type: ignore[index]
            shape = entry["shape"]  # type: ignore[index]
            start, end = entry["data_offsets"]  # type: ignore[index]
            sound = (
                len(entry) == len(FIELDS)  # type: ignore[arg-type]
                and type(shape) is list
                and type(start) is int  # so they came in a list: no other JSON value unpacks to integers
                and type(end) is int
                and len(shape) <= LARGEST_RANK
                and _ONLY_INTEGERS.issuperset(map(type, shape))  # `true` is not 1
                and prod(shape) * bits == (end - start) * BITS_PER_BYTE < U64_RANGE
                and (start < end or not overflows(shape, bits))
            )
        except (KeyError, TypeError, ValueError):
            sound = False
        if not sound:
            refuse_entry(name, entry)
        yield Tensor(
            name=name,
            dtype=dtype,
            shape=tuple(shape),
            file=file,
            start=data_start + start,
            end=data_start + end,
        )


# ---- all tensors together


def _refuse_bad_layout(tensors: tuple[Tensor, ...], data_start: int, file_size: int) -> None:
    """Refuse tensors that do not tile the bytes from `data_start` to the end of the file exactly."""
    ordered = sorted(tensors, key=attrgetter("start", "end"))
    reached = data_start
    for index, tensor in enumerate(ordered):
        if tensor.start != reached:
            raise place_refusal(ordered, index, data_start, file_size)
        reached = tensor.end
    if reached != file_size:
        raise end_refusal(ordered, data_start, file_size)
