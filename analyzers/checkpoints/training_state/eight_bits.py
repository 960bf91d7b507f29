"""Optimizer states of bitsandbytes in eight bits: codes, a table of 256 numbers, and a scale for each block.

Source: bitsandbytes, `optim/optimizer.py` and `functional.py` (`quantize_blockwise`, `dequantize_blockwise`).
"""

from collections.abc import Mapping
from dataclasses import replace
from math import prod

from jaynes_audit.analyzers.checkpoints.decoding import Scheme
from jaynes_audit.analyzers.checkpoints.quantised.claims import plain
from jaynes_audit.analyzers.checkpoints.quantised.decoder import Grid, Quantised
from jaynes_audit.analyzers.checkpoints.quantised.layouts import Numbers
from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from jaynes_audit.analyzers.dtypes import Dtype

CODE_BITS = 8
BLOCKS = (256, 2_048)  # elements: since bitsandbytes 0.43, and before
TABLES: Mapping[str, tuple[str, str]] = {"state1": ("qmap1", "absmax1"), "state2": ("qmap2", "absmax2")}
SCHEME = Scheme(
    label="8-bit", description="bitsandbytes, eight bits, a scale for each block", code_bits=CODE_BITS, keeps_law=True
)


def widened(tensors: Mapping[str, Tensor], name: str) -> Tensor | None:
    """The tensor of this name as numbers: itself, unless it is bitsandbytes' codes.

    None where those lack their table or their scales, or these do not fit them.
    """
    codes = tensors[name]
    if codes.dtype is not Dtype.U8:
        return codes
    table, scales = (tensors.get(part) for part in TABLES.get(name, ("", "")))
    count = prod(codes.shape)
    if table is None or scales is None or not count or any(each.decoder for each in (codes, table, scales)):
        return None
    if table.dtype is not Dtype.F32 or prod(table.shape) != 1 << CODE_BITS or scales.dtype is not Dtype.F32:
        return None
    blocks = prod(scales.shape)
    size = next((size for size in BLOCKS if -(-count // size) == blocks), None)
    if size is None:
        return None
    decoder = Quantised(
        scheme=SCHEME,
        parts=(codes.name, table.name, scales.name),
        rows=1,
        columns=count,
        codes=plain(codes, 1, count),
        numbers=Numbers(of=plain(table, 1, 1 << CODE_BITS), dtype=Dtype.F32),
        scales=Grid(numbers=Numbers(of=plain(scales, 1, blocks), dtype=Dtype.F32), block_rows=1, block_columns=size),
    )
    return replace(codes, dtype=Dtype.F32, decoder=decoder)
