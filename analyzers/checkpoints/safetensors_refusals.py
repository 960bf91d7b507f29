"""The sentences with which a safetensors file is refused: what is wrong, where, and what to do.

The parser in `safetensors_header` only decides that a file is unsound. It comes here once, with what it has in hand,
so these functions take their time, and each finds the most telling of the reasons that apply.
"""

import json
from math import prod
from typing import NoReturn

from jaynes_audit.analyzers.checkpoints.foreign import unknown_refusal
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.checkpoints.strict_json import OddNumber, Repeated, kind_of
from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from jaynes_audit.analyzers.dtypes import BITS, NOT_SAFETENSORS, Dtype
from jaynes_audit.analyzers.errors import RefusedFile

LENGTH_FIELD = 8  # bytes
SMALLEST_HEADER = 2  # `{}`
LARGEST_HEADER = 100_000_000  # bytes; MAX_HEADER_SIZE in tensor.rs. huggingface_hub's 25 MB is no rule of the format
LARGEST_RANK = 64  # NPY_MAXDIMS of NumPy 2
LARGEST_PLAUSIBLE_HEADER = 1 << 32  # beyond it a length is noise, not an oversized header
U64_RANGE = 1 << 64
BITS_PER_BYTE = 8
SHOWN_DIMENSIONS = 8

FIELDS = ("dtype", "shape", "data_offsets")
_NAMES = frozenset(Dtype) - NOT_SAFETENSORS
METADATA = "__metadata__"

FETCH_AGAIN = "download or copy the file again"
WRITE_AGAIN = "write the file again with a current safetensors library"
DO_NOT_LOAD = "do not load this file"


# ---- the length field


def length_refusal(length: int, head: bytes, file_size: int) -> RefusedFile:
    """Why no header of this length can stand at the beginning of this file, which is of no foreign kind."""
    begins_json = head[LENGTH_FIELD : LENGTH_FIELD + 1] == b"{"
    swapped = int.from_bytes(head[:LENGTH_FIELD], "big")
    rule, remedy = "JN003", WRITE_AGAIN
    if file_size == 0:
        rule, case, remedy = "JN002", "empty-file", FETCH_AGAIN
        fault = "the file is empty"
    elif file_size < LENGTH_FIELD:
        rule, case, remedy = "JN001", "shorter-than-length-field", FETCH_AGAIN
        fault = f"the file has {_bytes(file_size)}, and the header length alone takes {LENGTH_FIELD}"
    elif length < SMALLEST_HEADER:
        case, remedy = "header-too-short", FETCH_AGAIN
        fault = f"the header length is {length}, and the shortest header has {SMALLEST_HEADER} bytes"
        if length == 0:
            fault += "; a file that was given its size and never written looks like this"
    elif begins_json and SMALLEST_HEADER <= swapped <= file_size - LENGTH_FIELD:
        case = "header-length-big-endian"
        fault = f"the header length {swapped:,} is stored with its bytes in big-endian order"
    elif length <= LARGEST_HEADER:
        rule, case, remedy = "JN001", "header-past-end", FETCH_AGAIN
        fault = f"the header alone should have {_bytes(length)}, and the file ends after {_bytes(file_size)}"
    elif not begins_json:
        return unknown_refusal(head)
    elif length <= LARGEST_PLAUSIBLE_HEADER:
        case = "header-too-large"
        fault = f"the header length is {length:,} bytes, above the format's limit of {LARGEST_HEADER:,}"
    else:
        case, remedy = "header-length-impossible", FETCH_AGAIN
        fault = f"the header length is {length:,} bytes, more than a header could ever have"
    return RefusedFile(f"{fault}; {remedy}", rule=rule, case=case)


# ---- the JSON text


def beginning_refusal(raw: bytes) -> RefusedFile:
    """Why a header may not begin as this one does."""
    if raw.startswith(b"\xef\xbb\xbf"):
        case, fault = "header-byte-order-mark", "begins with a UTF-8 byte order mark"
    elif raw[:1].isspace():
        case, fault = "header-leading-space", f"begins with the blank {quoted(raw[:1].decode())}"
    elif raw[:1] == b"[":
        case, fault = "header-not-object", "begins a JSON list with `[`"
    else:
        case, fault = "header-no-brace", f"begins with byte 0x{raw[0]:02x}"
    return RefusedFile(f"the header {fault} and not with `{{`; {WRITE_AGAIN}", rule="JN003", case=case)


def rest_refusal(rest: str, *, at: int) -> RefusedFile:
    """Why `rest` may not follow the header's object."""
    if not rest.strip("\0 "):
        case, fault = "nul-padding", "NUL bytes pad"
    elif not rest.strip(" \t\r\n"):
        case, fault = "whitespace-padding", "tabs or line breaks pad"
    else:
        case, fault = "second-json-value", f"{quoted(rest, longest=20)} follows"
    return RefusedFile(
        f"{fault} the header's object at character {at:,}, where only spaces may stand; {WRITE_AGAIN}",
        rule="JN003",
        case=case,
    )


def repeated_refusal(key: str, text: str) -> RefusedFile:
    """The refusal of a key that stands twice in the header's outermost object."""
    spellings = {json.dumps(key), json.dumps(key, ensure_ascii=False)}
    if key == METADATA:
        case, remedy = "duplicate-metadata", WRITE_AGAIN
        fault = f"has two {METADATA} sections, and readers differ in which one they keep"
    elif any(text.count(spelling) > 1 for spelling in spellings):
        case, remedy = "duplicate-tensor", WRITE_AGAIN
        fault = f"names the tensor {quoted(key)} twice, and readers differ in which one they keep"
    else:
        case, remedy = "duplicate-tensor-escaped", DO_NOT_LOAD
        fault = f"names the tensor {quoted(key)} twice, once hidden behind an escape, which only deceit explains"
    return RefusedFile(f"the header {fault}; {remedy}", rule="JN003", case=case)


# ---- one tensor


def overflows(shape: list[int], bits: int) -> bool:
    """Whether a reader that multiplies the dimensions from the left leaves 64 bits, even if a zero follows."""
    elements = 1
    for dimension in shape:
        elements *= dimension
        if dimension >= U64_RANGE or elements >= U64_RANGE:
            return True
    return elements * bits >= U64_RANGE


def refuse_entry(name: str, entry: object) -> NoReturn:
    """Say what is wrong with a tensor's entry that was found unsound."""
    fields = _checked_fields(name, entry)
    dtype = _checked_dtype(name, fields["dtype"])
    shape = _checked_shape(name, fields["shape"])
    start, end = _checked_offsets(name, fields["data_offsets"])
    raise _size_refusal(name, dtype, shape, end - start)


def _bad(name: str, fault: str, case: str, *, rule: str = "JN003", remedy: str = WRITE_AGAIN) -> RefusedFile:
    return RefusedFile(f"tensor {quoted(name)} {fault}; {remedy}", rule=rule, case=case)


def _checked_fields(name: str, entry: object) -> dict[str, object]:
    if isinstance(entry, Repeated):
        raise _bad(name, f"has the field {quoted(entry.key)} twice", "duplicate-field")
    if not isinstance(entry, dict):
        raise _bad(
            name, f"is {kind_of(entry)} and must be an object with dtype, shape and data_offsets", "not-an-object"
        )
    for field in FIELDS:
        if field not in entry:
            raise _bad(name, f"has no {field}", f"missing-{field}")
    for field in entry:
        if field not in FIELDS:
            raise _bad(
                name,
                f"has the field {quoted(field)}, which the format does not know and may change its meaning",
                "unknown-field",
            )
    return entry


def _checked_dtype(name: str, value: object) -> Dtype:
    if not isinstance(value, str):
        raise _bad(name, f"has {kind_of(value)} for its dtype, which must be a name such as F32", "dtype-not-string")
    if value in _NAMES:
        return Dtype(value)
    if value.upper() in _NAMES:
        raise _bad(name, f"has the dtype {quoted(value)}, which is spelt {value.upper()}", "dtype-spelling")
    raise _bad(
        name,
        f"has the dtype {quoted(value)}, which safetensors 0.8 does not have",
        "unknown-dtype",
        remedy="write the file again with one of the format's own dtypes",
    )


def _checked_shape(name: str, value: object) -> list[int]:
    if not isinstance(value, list):
        raise _bad(name, f"has {kind_of(value)} for its shape, which must be a list", "shape-not-list")
    if len(value) > LARGEST_RANK:
        raise _bad(name, f"has {len(value):,} dimensions, and NumPy holds at most {LARGEST_RANK}", "rank-too-large")
    for position, dimension in enumerate(value):
        _check_number(name, dimension, what="dimension", where=f"dimension {position}")
    return value


def _checked_offsets(name: str, value: object) -> tuple[int, int]:
    if not isinstance(value, list):
        raise _bad(name, f"has {kind_of(value)} for its data_offsets, which must be [start, end]", "offsets-not-list")
    match value:
        case [start, end]:
            _check_number(name, start, what="offset", where="start offset")
            _check_number(name, end, what="offset", where="end offset")
        case _:
            raise _bad(
                name, f"has {len(value):,} numbers for its data_offsets, which must be [start, end]", "offsets-not-two"
            )
    if start > end:
        raise _bad(
            name, f"starts at data byte {start:,} and ends before that, at {end:,}", "offsets-reversed", rule="JN004"
        )
    return start, end


def _check_number(name: str, value: object, *, what: str, where: str) -> None:
    """Refuse what is not an integer from 0 to 2**64 - 1, with a case for each thing that stands there instead."""
    if type(value) is int:
        if value < U64_RANGE:
            return
        raise _bad(name, f"has {value} for its {where}, which does not fit in 64 bits", f"{what}-above-64-bits")
    raise _bad(
        name, f"has {kind_of(value)} for its {where}, which must be an unsigned integer", f"{what}-{_oddity(value)}"
    )


def _oddity(value: object) -> str:
    if not isinstance(value, OddNumber):
        return "not-a-number"
    literal = value.literal
    if literal == "-0":
        return "negative-zero"
    if literal.lstrip("-").isdecimal():
        return "negative" if literal[0] == "-" else "too-many-digits"
    return "not-finite" if literal[-1] in "Ny" else "fraction"  # NaN, Infinity


def _size_refusal(name: str, dtype: Dtype, shape: list[int], stored: int) -> RefusedFile:
    """Why a tensor of this dtype and shape does not have the bytes that it has."""
    elements, bits = prod(shape), prod(shape) * BITS[dtype]
    wraps_to = {bits % U64_RANGE, elements % U64_RANGE * BITS[dtype]}  # where a 64-bit product of either kind ends up
    remedy = WRITE_AGAIN
    if overflows(shape, BITS[dtype]):
        remedy = DO_NOT_LOAD
        if elements == 0:
            case, fault = "shape-overflow-before-zero", "overflows 64 bits before its zero dimension"
        elif stored * BITS_PER_BYTE in wraps_to:
            case, fault = "shape-wraps", f"overflows 64 bits and wraps round to just the {_bytes(stored)} it has"
        else:
            case, fault = "shape-overflow", "has more elements than 64 bits can count"
    elif bits % BITS_PER_BYTE:
        case, fault = "not-whole-bytes", f"takes {bits:,} bits, which are no whole bytes"
    else:
        case, fault = "size-mismatch", f"needs {_bytes(bits // BITS_PER_BYTE)} and has {stored:,}"
    return _bad(name, f"of shape {dtype}{_shown(shape)} {fault}", case, rule="JN004", remedy=remedy)


def _shown(shape: list[int]) -> str:
    rest = ", …" if len(shape) > SHOWN_DIMENSIONS else ""
    return f"[{', '.join(map(str, shape[:SHOWN_DIMENSIONS]))}{rest}]"


def _bytes(count: int) -> str:
    return "1 byte" if count == 1 else f"{count:,} bytes"


# ---- all tensors together


def place_refusal(ordered: list[Tensor], index: int, data_start: int, file_size: int) -> RefusedFile:
    """Why `ordered[index]` is in the wrong place: it does not start where the tensor before it ends."""
    tensor = ordered[index]
    if index == 0:
        if tensor.start == 2 * data_start and ordered[-1].end == data_start + file_size:
            return RefusedFile(
                f"the data_offsets count from the file's beginning, {_bytes(data_start)} too far, and must count from "
                f"the end of the header; {WRITE_AGAIN}",
                rule="JN004",
                case="offsets-absolute",
            )
        return _bad(
            tensor.name,
            f"is the first, and {_bytes(tensor.start - data_start)} before it belong to no tensor",
            "hole-at-start",
            rule="JN004",
        )
    before = ordered[index - 1]
    if tensor.start > before.end:
        gap = _bytes(tensor.start - before.end)
        fault = f"starts {gap} after the end of tensor {quoted(before.name)}, a hole that belongs to none"
        return _bad(tensor.name, fault, "hole", rule="JN004")
    if (tensor.start, tensor.end) == (before.start, before.end):
        fault = f"has the very same bytes as tensor {quoted(before.name)}, which tensors may not share"
        return _bad(tensor.name, fault, "same-bytes-twice", rule="JN004")
    fault = (
        f"starts {_bytes(before.end - tensor.start)} before the end of tensor {quoted(before.name)}, so they overlap"
    )
    return _bad(tensor.name, fault, "overlap", rule="JN004")


def end_refusal(ordered: list[Tensor], data_start: int, file_size: int) -> RefusedFile:
    """Why the tensors, which follow each other without a gap, do not end where the file ends."""
    reached = ordered[-1].end if ordered else data_start
    if reached < file_size:
        return RefusedFile(
            f"{_bytes(file_size - reached)} follow the last tensor, from byte {reached:,} on, and belong to none: a "
            f"second file may hide there; {WRITE_AGAIN}",
            rule="JN001",
            case="trailing-bytes",
        )
    first_cut = next(tensor for tensor in ordered if tensor.end > file_size)
    return RefusedFile(
        f"the file ends at byte {file_size:,} and its header declares data up to byte {reached:,}: "
        f"{_bytes(reached - file_size)} are missing, from tensor {quoted(first_cut.name)} on; {FETCH_AGAIN}",
        rule="JN001",
        case="data-cut-off",
    )
