"""Weights of four bits in blocks that pay no heed to rows: nf4 and fp4 of bitsandbytes.

Source: bitsandbytes, `functional.py` (`QuantState.as_dict`, `dequantize_4bit`, `dequantize_blockwise`).
"""

import json
import math
from math import prod

from jaynes_audit.analyzers.checkpoints.decoding import Scheme
from jaynes_audit.analyzers.checkpoints.quantised.claims import (
    CODES,
    Claim,
    CodesOnly,
    Contents,
    Stored,
    made,
    parts_of,
    plain,
    require,
    require_dtype,
    require_shape,
)
from jaynes_audit.analyzers.checkpoints.quantised.decoder import Grid, Nested
from jaynes_audit.analyzers.checkpoints.quantised.layouts import Layout, Numbers, Packed
from jaynes_audit.analyzers.checkpoints.quantised.settings import Settings
from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from jaynes_audit.analyzers.dtypes import Dtype

KINDS = ("nf4", "fp4")
STATES = tuple(f".quant_state.bitsandbytes__{kind}" for kind in KINDS)
HIGH_FIRST = (1, 0)  # the first of two codes stands in the high half of its byte
CODE_BITS = 4
TABLE = 1 << CODE_BITS
BYTE_TABLE = 256
FLOAT32 = frozenset({Dtype.F32})
MOST_AXES = 8
LARGEST_SIZE = (1 << 63) - 1  # along one axis, in any library


def claim_blockwise(tensor: Tensor, stored: Stored) -> Claim | None:
    """A state of bitsandbytes and the codes of any dtype that it belongs to."""
    if not tensor.name.endswith(STATES):
        return None
    name = tensor.name.partition(".quant_state.")[0]
    if name not in stored:
        return None
    more = {
        CODES: "",
        "scale": ".absmax",
        "table": ".quant_map",
        "nested scale": ".nested_absmax",
        "nested table": ".nested_quant_map",
    }
    parts = parts_of(stored, **{role: f"{name}{suffix}" for role, suffix in more.items()})
    return Claim(name=name, parts={**parts, "state": tensor}, make=_blockwise, reads=("state",))


def _blockwise(claim: Claim, _: Settings, contents: Contents) -> Tensor:
    stored_state, scale, table = claim.needed("state", "scale", "table")
    state = _state(contents[stored_state.name])
    kind = state.get("quant_type")
    require(kind in KINDS and stored_state.name.endswith(f"__{kind}"), "their state is of another kind than its name")
    shape = _shape(state)
    count = prod(shape)
    codes = claim.codes
    octets = -(-count // 2)
    require(codes.end - codes.start == octets, f"{codes.end - codes.start:,} bytes are not {count:,} codes of 4 bits")
    block = _size(state.get("blocksize"), "blocksize")
    blocks = -(-count // block)
    require(prod(scale.shape) == blocks, f"{prod(scale.shape):,} scales do not fit {blocks:,} blocks")
    require_dtype(table, FLOAT32, "numbers")
    require(prod(table.shape) == TABLE, f"their table has {prod(table.shape):,} entries and should have {TABLE}")
    nested = "nested scale" in claim.parts or "nested table" in claim.parts
    return made(
        claim,
        Scheme(
            label=str(kind).upper(),
            description=f"bitsandbytes, {kind}, blocks of {block:,}{', scales quantised too' if nested else ''}",
            code_bits=CODE_BITS,
        ),
        shape=shape,
        view=(1, count),
        codes=Packed(
            words=plain(codes, 1, octets, dtype=Dtype.U8),
            word_columns=octets,
            word_bits=8,
            bits=CODE_BITS,
            order=HIGH_FIRST,
        ),
        numbers=Numbers(of=plain(table, 1, TABLE), dtype=Dtype.F32),
        scales=Grid(
            numbers=_nested(claim, state, blocks) if nested else _floats(scale, blocks),
            block_rows=1,
            block_columns=block,
        ),
    )


def _floats(tensor: Tensor, count: int) -> Layout:
    require_dtype(tensor, FLOAT32, "scales")
    return Numbers(of=plain(tensor, 1, count), dtype=Dtype.F32)


def _nested(claim: Claim, state: dict[str, object], count: int) -> Layout:
    scale, table = claim.needed("nested scale", "nested table")
    codes = claim.parts["scale"]
    require_dtype(codes, frozenset({Dtype.U8}), "scales")
    require_dtype(table, FLOAT32, "nested numbers")
    require_shape(table, (BYTE_TABLE,), "nested numbers")
    block = _size(state.get("nested_blocksize"), "nested_blocksize")
    blocks = -(-count // block)
    require(prod(scale.shape) == blocks, f"{prod(scale.shape):,} nested scales do not fit {blocks:,} blocks")
    offset = state.get("nested_offset")
    if not isinstance(offset, float) or not math.isfinite(offset):
        raise CodesOnly("their state names no offset of the nested scales")
    return Nested(
        codes=plain(codes, 1, count),
        table=Numbers(of=plain(table, 1, BYTE_TABLE), dtype=Dtype.F32),
        scales=Grid(numbers=_floats(scale, blocks), block_rows=1, block_columns=block),
        offset=offset,
    )


def _state(content: bytes) -> dict[str, object]:
    """The state, which is JSON. Its length was limited when it was read."""
    try:
        state = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        state = None
    if not isinstance(state, dict):
        raise CodesOnly("their state is not a JSON object")
    return state


def _shape(state: dict[str, object]) -> tuple[int, ...]:
    shape = state.get("shape")
    if not isinstance(shape, list) or not 0 < len(shape) <= MOST_AXES:
        raise CodesOnly("their state names no shape")
    return tuple(_size(size, "shape") for size in shape)


def _size(size: object, key: str) -> int:
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= LARGEST_SIZE:
        raise CodesOnly(f"their state names no {key} that can be")
    return size
