"""A GGUF file -> its tensors: where each one's bytes are, and how they are to be understood."""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from math import prod
from typing import BinaryIO

from jaynes_audit.analyzers.checkpoints.gguf_blocks import (
    BIG_ENDIAN_NUMBERS,
    BLOCKS,
    NAMES_OF_OTHERS,
    PLAIN,
    BigEndian,
    QuantisedBlocks,
    Scales,
)
from jaynes_audit.analyzers.checkpoints.gguf_config import config_of_gguf
from jaynes_audit.analyzers.checkpoints.gguf_header import (
    FETCH_AGAIN,
    MAGIC,
    Entry,
    Header,
    padded,
    read_header,
    refusal,
)
from jaynes_audit.analyzers.checkpoints.places import Place, Span
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.checkpoints.tensor import Tensor, WeightFile
from jaynes_audit.analyzers.dtypes import BITS, Dtype

WEIGHT, SCALE = ".weight", ".scale"
STACK = 3  # axes of a stack of experts


def looks_like_gguf(head: bytes, file_size: int) -> bool:
    """Whether the first bytes are those of a GGUF file."""
    del file_size
    return head.startswith(MAGIC)


def read_gguf(stream: BinaryIO, file: Place, file_size: int) -> WeightFile:
    """The tensors of an opened GGUF file. Reads the header and not one byte of the tensors.

    Shapes are in C order, the other way round than in the file. Every tensor lies wholly inside the file and shares no
    byte with another. One of a type that cannot be decoded comes as its bytes and is listed as `undecoded`.

    Raises:
        RefusedFile: JN001 when the file is cut off, JN002 when its version is not known, JN003 when the header is bad,
            JN004 when the tensors do not fit in the file or have no proper size.
        CouldNotRead: when the file lost bytes while it was being read.
    """
    header = read_header(stream, file, file_size)
    spans = _spans(header, file, file_size)
    scales = _scales(header, spans)
    taken = {each.name for each in scales.values()}
    faults = {entry.name: _undecodable(entry, is_big_endian=header.is_big_endian) for entry in header.entries}
    return WeightFile(
        file=file,
        tensors=tuple(
            _tensor(entry, spans[entry.name], scales.get(entry.name), is_big_endian=header.is_big_endian)
            for entry in header.entries
            if entry.name not in taken
        ),
        config=config_of_gguf(header.metadata),
        undecoded={name: fault for name, fault in faults.items() if fault},
        remarks=_remarks(header, spans.values(), file_size),
    )


# ---- where tensors are


def _spans(header: Header, file: Place, file_size: int) -> dict[str, Span]:
    """The bytes of each tensor, by its name, none of which is another's or outside the file."""
    next_offset = dict(pairwise(sorted({entry.offset for entry in header.entries})))
    spans = {}
    for entry in header.entries:
        start = header.data_start + entry.offset
        length = entry.stored_bytes
        if length is None:  # of an unknown type: all that can be its own, and at least a byte
            length = next_offset.get(entry.offset, max(file_size - header.data_start, entry.offset + 1)) - entry.offset
        spans[entry.name] = Span(file, start, start + length)
    _refuse_bad_layout(header, spans, file_size)
    return spans


def _refuse_bad_layout(header: Header, spans: Mapping[str, Span], file_size: int) -> None:
    reached, before = header.data_start, ""
    for start, end, name in sorted((span.start, span.end, name) for name, span in spans.items()):
        if start == end:
            continue
        if start < reached:
            raise refusal(
                f"tensors {quoted(before)} and {quoted(name)} share bytes, {start:,} to {min(reached, end):,}",
                "overlap",
                rule="JN004",
            )
        if end > file_size and start - reached < header.alignment:
            raise refusal(
                f"the file ends at byte {file_size:,}, before the end of tensor {quoted(name)} at byte {end:,}",
                "data-cut-off",
                rule="JN001",
                remedy=FETCH_AGAIN,
            )
        if end > file_size:
            raise refusal(
                f"tensor {quoted(name)} is said to be at bytes {start:,} to {end:,} of a file of {file_size:,} bytes",
                "past-end",
                rule="JN004",
            )
        reached, before = end, name


def _remarks(header: Header, spans: Iterable[Span], file_size: int) -> tuple[str, ...]:
    claimed = sum(padded(span.end - span.start, header.alignment) for span in spans)
    unclaimed = file_size - header.data_start - claimed
    if unclaimed <= 0:  # below 0 where the last tensor was not padded
        return ()
    return (f"{unclaimed:,} bytes of the file belong to no tensor, and anything may stand there",)


# ---- tensors


def _undecodable(entry: Entry, *, is_big_endian: bool) -> str:
    """Why a tensor cannot be decoded; empty if it can."""
    if entry.type_number in PLAIN:
        return ""
    if blocks := BLOCKS.get(entry.type_number):
        if is_big_endian and blocks.name not in BIG_ENDIAN_NUMBERS:
            return f"codes only: {blocks.name} in big-endian order, which llama.cpp's own converter does not write"
        return ""
    if name := NAMES_OF_OTHERS.get(entry.type_number):
        return f"codes only: {name}, which llama.cpp does not read from a file"
    return f"codes only: ggml's type {entry.type_number:,}, which is not known here"


def _scales(header: Header, spans: Mapping[str, Span]) -> dict[str, Scales]:
    """The factors of quantised weights, by the weight's name.

    llama.cpp multiplies what the matrix `x.weight` gives by the numbers in `x.scale`, one for all or one for each
    expert; NVFP4 cannot do without them.
    """
    by_name = {entry.name: entry for entry in header.entries}
    scales = {}
    for entry in header.entries:
        if entry.type_number not in BLOCKS or not entry.name.endswith(WEIGHT) or 0 in entry.shape:
            continue
        factors = by_name.get(entry.name.removesuffix(WEIGHT) + SCALE)
        if factors is None or PLAIN.get(factors.type_number) is not Dtype.F32:
            continue
        experts = entry.shape[0] if len(entry.shape) == STACK else 1
        if prod(factors.shape) in {1, experts} and not _undecodable(entry, is_big_endian=header.is_big_endian):
            span = spans[factors.name]
            scales[entry.name] = Scales(name=factors.name, span=span, is_big_endian=header.is_big_endian)
    return scales


def _tensor(entry: Entry, place: Span, scales: Scales | None, *, is_big_endian: bool) -> Tensor:
    dtype, shape = PLAIN.get(entry.type_number, Dtype.F32), entry.shape
    decoder: BigEndian | QuantisedBlocks | None = None
    if _undecodable(entry, is_big_endian=is_big_endian):
        dtype, shape = Dtype.U8, (place.end - place.start,)
    elif blocks := BLOCKS.get(entry.type_number):
        decoder = QuantisedBlocks(
            name=entry.name,
            file=place.file,
            start=place.start,
            elements=prod(shape),
            type=blocks,
            is_big_endian=is_big_endian,
            scales=scales,
        )
    elif is_big_endian and BITS[dtype] > BITS[Dtype.I8]:
        decoder = BigEndian(file=place.file, start=place.start, dtype=dtype)
    return Tensor(
        name=entry.name,
        dtype=dtype,
        shape=shape,
        file=place.file,
        start=place.start,
        end=place.end,
        decoder=decoder,
    )
