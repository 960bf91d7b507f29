"""Tensor -> chunks: the stored weights of one part of a tensor, a mebibyte or so at a time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.checkpoints.places import Readable
from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from jaynes_audit.analyzers.dtypes import BITS, COMPLEX, NUMPY_DTYPES, Dtype, stored_codes
from jaynes_audit.analyzers.roles import Layout, Part, Role, Stripes, layout_of
from jaynes_audit.analyzers.roles.settings import initial_sd, settings_of
from jaynes_audit.analyzers.sketch.extent import MAX_SCALED_LENGTH, Extent

Stored = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A part of a tensor, as a matrix of its own: what the audit sketches and reports.

    `declared_sd` is the standard deviation of the initial weights that the model's config.json declares, if it does.
    """

    tensor: Tensor
    layout: Layout
    part: Part
    extent: Extent
    declared_sd: float | None = None

    @property
    def name(self) -> str:
        """The tensor's name, with the part of it in brackets where it is fused."""
        return f"{self.tensor.name}[{self.part.suffix}]" if self.part.suffix else self.tensor.name


def layers_of(tensor: Tensor, config: Mapping[str, object]) -> Iterator[Layer]:
    """Give the layers that a tensor holds, from its name, its shape and the model's config.json."""
    layout = layout_of(tensor.name, tensor.shape, config)
    parts = layout.parts
    if len(parts) > 1 and layout.columns * BITS[tensor.dtype] % 8:
        # Rows that share a byte cannot be told apart by their bytes.
        parts = (_whole(layout),)
    for part in parts:
        yield Layer(
            tensor=tensor,
            layout=layout,
            part=part,
            extent=_extent(tensor, layout, part),
            declared_sd=initial_sd(settings_of(config, part.stack)),
        )


def _whole(layout: Layout) -> Part:
    return replace(
        layout.parts[0],
        suffix="",
        role=Role.OTHER,
        fan_in=0,
        fan_out=0,
        rows=Stripes.span(0, layout.rows),
        columns=Stripes.span(0, layout.columns),
    )


def _extent(tensor: Tensor, layout: Layout, part: Part) -> Extent:
    rows, columns = len(part.rows), len(part.columns)
    dtype = tensor.dtype
    if dtype in COMPLEX:
        # A complex weight is two real ones in a row: its real and its imaginary part.
        dtype, columns = COMPLEX[dtype], 2 * columns
    if len(tensor.shape) > 1 and max(rows, columns) <= MAX_SCALED_LENGTH:
        return Extent(rows=rows, columns=columns, dtype=dtype, scaled=True)
    if _is_one_run(layout, part):
        return Extent(rows=rows * columns, columns=1, dtype=dtype, scaled=False)
    return Extent(rows=rows, columns=columns, dtype=dtype, scaled=False)


def chunks(source: Readable, layer: Layer, *, first_row: int, stop_row: int) -> Iterator[Stored]:
    """Read rows `first_row` to `stop_row` of a layer's extent, chunk by chunk, as stored codes of shape (k, columns).

    `source` gives the bytes of the layer's tensor, see `Sources.of`. Each chunk is valid until the next is asked for.
    `first_row` is a multiple of `extent.chunk_rows`.
    Raises what `Readable.read` raises.
    """
    extent = layer.extent
    read = _read_run if _is_one_run(layer.layout, layer.part) else _read_stripes
    for row in range(first_row, stop_row, extent.chunk_rows):
        yield read(source, layer, row, min(stop_row, row + extent.chunk_rows))


def stored_range(layer: Layer, first_row: int, stop_row: int) -> tuple[int, int]:
    """Say which bytes of the layer's tensor hold rows `first_row` to `stop_row` of its extent."""
    if _is_one_run(layer.layout, layer.part):
        return _run(layer, first_row, stop_row)
    row_bytes = layer.layout.columns * BITS[layer.tensor.dtype] // 8
    rows = layer.part.rows
    top, bottom = (rows.start + row // rows.count * rows.period for row in (first_row, stop_row - 1))
    return top * row_bytes, min(layer.layout.rows, bottom + rows.period) * row_bytes


def _is_one_run(layout: Layout, part: Part) -> bool:
    """Whether the part's bytes follow one another in the file."""
    return _contiguous(part.rows) and len(part.columns) == layout.columns


def _contiguous(stripes: Stripes) -> bool:
    return stripes.count == stripes.period or stripes.stop - stripes.start <= stripes.period


def _run(layer: Layer, row: int, stop: int) -> tuple[int, int]:
    row_bits = layer.extent.row_bits
    start_of_part = (layer.part.rows.start + layer.part.rows.first) * layer.layout.columns * BITS[layer.tensor.dtype]
    return (start_of_part + row * row_bits) // 8, (start_of_part + stop * row_bits) // 8


def _read_run(source: Readable, layer: Layer, row: int, stop: int) -> Stored:
    window = source.read(*_run(layer, row, stop))
    return _codes(window, layer.tensor.dtype).reshape(stop - row, layer.extent.columns)


def _read_stripes(source: Readable, layer: Layer, row: int, stop: int) -> Stored:
    rows, columns = layer.part.rows, layer.part.columns
    runs = []
    while row < stop:
        within = row % rows.count
        height = min(stop - row, rows.count - within)
        top = rows.start + row // rows.count * rows.period + rows.first + within
        # Copied at once: the view is only valid until the next read.
        runs.append(_read_columns(source, layer, top, top + height, columns).copy())
        row += height
    return np.concatenate(runs) if len(runs) > 1 else runs[0]


def _read_columns(source: Readable, layer: Layer, top: int, bottom: int, columns: Stripes) -> Stored:
    tensor, width = layer.tensor, layer.layout.columns
    row_bytes = width * BITS[tensor.dtype] // 8
    window = source.read(top * row_bytes, bottom * row_bytes)
    height = bottom - top
    whole = stored_codes(window, tensor.dtype).reshape(height, width)[:, columns.start : columns.stop]
    if _contiguous(columns):
        taken = whole[:, columns.first : columns.first + columns.count]
    else:
        taken = whole.reshape(height, -1, columns.period)[:, :, columns.first : columns.first + columns.count]
    contiguous = np.ascontiguousarray(taken).reshape(height, -1)
    return _parted(contiguous, tensor.dtype)


def _codes(window: memoryview, dtype: Dtype) -> Stored:
    return _parted(stored_codes(window, dtype), dtype)


def _parted(codes: Stored, dtype: Dtype) -> Stored:
    return codes.view(NUMPY_DTYPES[COMPLEX[dtype]]) if dtype in COMPLEX else codes
